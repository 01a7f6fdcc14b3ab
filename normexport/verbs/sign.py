"""The verb `sign`: a signature over all files of a folder."""

from __future__ import annotations

from pathlib import Path

from normexport.provenance.signing import sign_folder


def sign(
    folder: str | Path, key: str | Path, signature: str | Path | None = None, *, password: str | None = None
) -> Path:
    """Sign every file below a folder with a key of one's own, as OpenSSF's model signature; returns its path.

    Args:
        folder: what `convert` wrote, or a bundle.
        key: a private key on an elliptic curve (P-256, P-384 or P-521), in PEM.
        signature: the file to write; None: `model.sig` in the folder.
        password: of an encrypted key.

    Raises:
        UsageError: no such folder or key, another password, a link among the files, a key that lies in the folder.
        MissingComponent: model-signing is not installed.
    """
    return sign_folder(Path(folder), Path(key), None if signature is None else Path(signature), password)
