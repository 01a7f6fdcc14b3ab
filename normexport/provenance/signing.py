"""Sign a folder and check its signature: the OpenSSF model signature, by a key of one's own and without a network.

Every file below the folder is signed, by name and SHA-256; `model_signing verify key` reads the signature too. To sign
in the name of an identity (Sigstore) takes a network and a login, and is left to `model_signing sign sigstore`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normexport.errors import MissingComponent, UsageError
from normexport.io.atomic import scratch, write_bytes
from normexport.io.opening import opened
from normexport.text import first_line, printable

#: The signature in the folder that it signs.
SIGNATURE = "model.sig"

#: Where the password of a key is looked for, so that it stands in no command line.
PASSWORD = "NORMEXPORT_KEY_PASSWORD"

_MOST_KEY = 1 << 16  # bytes of a key that are looked at

_INSTALL = "run: pip install 'normexport[sign]'"


def sign_folder(folder: Path, key: Path, signature: Path | None = None, password: str | None = None) -> Path:
    """Sign all files below `folder`; returns the signature's path.

    Args:
        folder: that a bundle or `convert` made.
        key: a private key on an elliptic curve, in PEM.
        signature: where to write it; None: `model.sig` in the folder.
        password: of an encrypted key; one that is not encrypted has no use for it.

    Raises:
        UsageError: the folder is none or holds links, the key is none, is encrypted by another password, or lies in the
            folder.
        MissingComponent: model-signing is not installed.
    """
    target = signature if signature is not None else folder / SIGNATURE
    _require_folder(folder)
    locked = is_encrypted(key)
    if locked and not password:
        raise UsageError(str(key), "is encrypted", f"give its password, or put it into {PASSWORD}")
    if key.resolve().is_relative_to(folder.resolve()):
        raise UsageError(str(key), "lies in the folder that it signs, and would go with it", "keep it elsewhere")
    signing, hashing = _kit()
    secret = {"password": str(password).encode()} if locked else {}
    with scratch() as place:
        made = place / SIGNATURE
        with _in_words(key, "can't be used"):
            config = signing.signing.Config()
            config.use_elliptic_key_signer(private_key=str(key), **secret)
        with _in_words(folder, "can't be signed"):
            config.set_hashing_config(_hashing(hashing, folder, target))
            config.sign(str(folder), str(made))
        write_bytes(target, made.read_bytes())
    return target


def verify_folder(folder: Path, key: Path, signature: Path | None = None) -> int:
    """All files below `folder` are those that were signed, none more and none less, by the owner of the key.

    Returns how many they are.

    Args:
        key: the public key, in PEM.
        signature: None: `model.sig` in the folder.

    Raises:
        UsageError: a file was changed, added, removed, renamed, or is a link; the signature is of another key, or none.
        MissingComponent: model-signing is not installed.
    """
    given = signature if signature is not None else folder / SIGNATURE
    _require_folder(folder)
    _require_key(key)
    if not given.is_file():
        raise UsageError(str(given), "is not there", "sign the folder with normexport sign, or name the signature")
    signing, hashing = _kit()
    with _in_words(folder, "is not what was signed"):
        config = signing.verifying.Config()
        config.use_elliptic_key_verifier(public_key=str(key))
        # Left out is the signature, and what the key's owner left out; a guess from the signature would follow links.
        config.set_hashing_config(_hashing(hashing, folder, given))
        config.verify(str(folder), str(given))
    return sum(path.is_file() and path != given for path in folder.rglob("*"))


def is_encrypted(key: Path) -> bool:
    """Whether a private key is of no use without its password.

    Raises:
        UsageError: there is no such file, or it can't be read.
    """
    _require_key(key)
    with opened(key) as file:
        return b"ENCRYPTED" in file.read(_MOST_KEY)  # in the first line, or of older files in the second


def _kit() -> tuple[Any, Any]:
    try:
        with _quiet():
            import model_signing
            from model_signing import hashing
    except ImportError as error:
        raise MissingComponent("model-signing", "is not installed, or not whole", _INSTALL) from error
    return model_signing, hashing


def _hashing(hashing: Any, folder: Path, signature: Path) -> Any:
    """Files by SHA-256, links refused, nothing left out but the signature."""
    whole, real = folder.resolve(), signature.parent.resolve() / signature.name
    inside = [str(real.relative_to(whole))] if real.is_relative_to(whole) else []
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=inside, ignore_git_paths=False)


def _require_folder(folder: Path) -> None:
    """A folder of regular files: a link leads elsewhere, and what it leads to can be changed behind the signature."""
    if not folder.is_dir():
        raise UsageError(str(folder), "is not a folder", "name one that convert wrote")
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            name = printable(str(path.relative_to(folder)), 100)
            raise UsageError(str(folder), f"holds {name}, which is no regular file", "put the file itself there")


def _require_key(key: Path) -> None:
    if not key.is_file():
        raise UsageError(
            str(key), "is not there", "make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        )


@contextlib.contextmanager
def _in_words(folder: Path, wrong: str) -> Iterator[None]:
    """What the library raises, which has no class of its own for each failure, as one line."""
    try:
        with _quiet():
            yield
    except UsageError:
        raise
    except Exception as error:  # see above
        words = printable(first_line(error), 300)
        raise UsageError(str(folder), f"{wrong} ({words})", "") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Telemetry is off, and what libraries print goes nowhere."""
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
