"""The verb `verify`: a folder is what the owner of a key has signed."""

from __future__ import annotations

from pathlib import Path

from normexport.provenance.signing import verify_folder


def verify(folder: str | Path, key: str | Path, signature: str | Path | None = None) -> int:
    """Check that a folder holds the files that were signed, none more, none less, none other; returns how many.

    Args:
        folder: that was signed.
        key: the public key of whoever signed it, in PEM.
        signature: None: `model.sig` in the folder.

    Raises:
        UsageError: a file was changed, added, removed or renamed; the signature is by another key, damaged or missing.
        MissingComponent: model-signing is not installed.
    """
    return verify_folder(Path(folder), Path(key), None if signature is None else Path(signature))
