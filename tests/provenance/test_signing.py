"""`sign` and `verify`: a folder that was touched in any way, or signed by another, is refused in one line."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

import normexport
from normexport.errors import ExitCode, UsageError
from normexport.io.atomic import write_text
from tests.cli.conftest import environment

pytestmark = pytest.mark.slow

MISSING = "model-signing is not installed: pip install 'normexport[sign]'"
pytest.importorskip("model_signing", reason=MISSING)
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason=MISSING)
ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec", reason=MISSING)
rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa", reason=MISSING)


def keys(folder: Path, name: str, curve: str = "SECP256R1") -> tuple[Path, Path]:
    """A private and a public key in PEM."""
    key = ec.generate_private_key(getattr(ec, curve)())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, kind))
    return private, public


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A signed folder and the public key."""
    folder = tmp_path / "bundle"
    (folder / "models" / "net" / "1").mkdir(parents=True)
    (folder / "models" / "net" / "1" / "model.onnx").write_bytes(os.urandom(5000))
    (folder / "models" / "net" / "1" / "model.onnx.data").write_bytes(os.urandom(5000))
    (folder / "README.md").write_text("words")
    private, public = keys(tmp_path, "mine")
    assert normexport.sign(folder, private) == folder / "model.sig"
    return folder, public


def test_what_was_signed_is_verified_wherever_it_is_copied(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    assert normexport.verify(folder, public) == 3
    copied = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "other name"))
    assert normexport.verify(copied, public) == 3


def test_the_libraries_own_command_verifies_it_too(signed: tuple[Path, Path]) -> None:
    folder, public = signed
    words = ["-m", "model_signing", "verify", "key", str(folder), "--signature", str(folder / "model.sig")]
    done = subprocess.run(
        [sys.executable, *words, "--public_key", str(public), "--ignore-paths", str(folder / "model.sig")],
        capture_output=True,
        text=True,
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


MODEL = Path("models") / "net" / "1" / "model.onnx"


def change(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[1234] ^= 1
    (folder / MODEL).write_bytes(content)


def swap(folder: Path) -> None:
    one, other, place = folder / MODEL, folder / f"{MODEL}.data", folder / "place"
    one.rename(place)
    other.rename(one)
    place.rename(other)


def link(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / MODEL).rename(outside)
    (folder / MODEL).symlink_to(outside)


def alter(folder: Path, *, payload: bool = False) -> None:
    """One bit of what is signed, or of the signature."""
    bundle = json.loads((folder / "model.sig").read_text())
    envelope = bundle["dsseEnvelope"]
    holder, key = (envelope, "payload") if payload else (envelope["signatures"][0], "sig")
    content = bytearray(base64.b64decode(holder[key]))
    content[-20] ^= 1
    holder[key] = base64.b64encode(content).decode()
    (folder / "model.sig").write_text(json.dumps(bundle))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed": change,
    "swapped": swap,
    "link": link,
    "removed": lambda folder: (folder / MODEL).unlink(),
    "renamed": lambda folder: (folder / MODEL).rename(folder / "models" / "net" / "1" / "other.onnx"),
    "added": lambda folder: (folder / "models" / "net" / "2.onnx").write_bytes(b"x"),
    "added hidden": lambda folder: (folder / ".gitignore").write_text("x"),
    "added to .git": lambda folder: write_text(folder / ".git" / "x", "x"),
    "added empty": lambda folder: (folder / "empty").touch(),
    "cut": lambda folder: os.truncate(folder / MODEL, 100),
    "pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "signature gone": lambda folder: (folder / "model.sig").unlink(),
    "signature empty": lambda folder: (folder / "model.sig").write_text(""),
    "signature of nothing": lambda folder: (folder / "model.sig").write_text("{}"),
    "signature no text": lambda folder: (folder / "model.sig").write_bytes(b"\x00\xff" * 99),
    "signature altered": alter,
    "payload altered": lambda folder: alter(folder, payload=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_that_was_touched_is_refused_in_one_line(signed: tuple[Path, Path], damage: str) -> None:
    folder, public = signed
    DAMAGE[damage](folder)
    result = CliRunner().invoke(app, ["verify", str(folder), "--key", str(public)])
    assert result.exit_code == ExitCode.USAGE, (result.output, result.exception)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "verified" not in result.output


def test_a_signature_by_another_key_is_refused(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    other, other_public = keys(tmp_path, "other")
    with pytest.raises(UsageError, match="is not what was signed"):
        normexport.verify(folder, other_public)
    normexport.sign(folder, other)  # whoever can write the folder signs it anew, with the key he has
    with pytest.raises(UsageError, match="is not what was signed"):
        normexport.verify(folder, public)


def test_the_signature_of_one_folder_is_none_of_another(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "README.md").write_text("other words")
    normexport.sign(other, tmp_path / "mine.pem")
    assert normexport.verify(other, public) == 3
    shutil.copyfile(folder / "model.sig", other / "model.sig")
    with pytest.raises(UsageError, match=r"README\.md"):
        normexport.verify(other, public)


def test_the_signature_may_lie_elsewhere(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    (folder / "model.sig").unlink()
    signature = normexport.sign(folder, tmp_path / "mine.pem", tmp_path / "apart.sig")
    assert not (folder / "model.sig").exists()
    assert normexport.verify(folder, public, signature) == 3
    with pytest.raises(UsageError, match="is not there"):
        normexport.verify(folder, public)


PASSWORD = "correct horse \N{LATIN SMALL LETTER U WITH DIAERESIS}"


@pytest.fixture(params=["PKCS8", "TraditionalOpenSSL"])
def locked(request: pytest.FixtureRequest, signed: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder that is not signed, an encrypted key in either of OpenSSL's forms, and its public key."""
    private, public = keys(tmp_path, "locked")
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    locking = serialization.BestAvailableEncryption(PASSWORD.encode())
    form = getattr(serialization.PrivateFormat, request.param)
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locking))
    (signed[0] / "model.sig").unlink()
    return signed[0], private, public


def sign_by_command(folder: Path, private: Path, password: str | None) -> Any:
    environment = {"NORMEXPORT_KEY_PASSWORD": password}
    return CliRunner().invoke(app, ["sign", str(folder), "--key", str(private)], env=environment)


def test_an_encrypted_key_signs_by_its_password(locked: tuple[Path, Path, Path]) -> None:
    folder, private, public = locked
    result = sign_by_command(folder, private, PASSWORD)
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert PASSWORD not in result.output
    assert normexport.verify(folder, public) == 3
    normexport.sign(folder, private, password=PASSWORD)
    assert normexport.verify(folder, public) == 3


@pytest.mark.parametrize(("password", "said"), [(None, "nobody is there to ask"), ("wrong", "can't be used")])
def test_without_its_password_an_encrypted_key_signs_nothing(
    locked: tuple[Path, Path, Path], password: str | None, said: str
) -> None:
    folder, private, _ = locked
    result = sign_by_command(folder, private, password)
    assert result.exit_code == ExitCode.USAGE
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (folder / "model.sig").exists()
    with pytest.raises(UsageError, match=r"is encrypted|can't be used"):
        normexport.sign(folder, private, password=password)


def test_the_password_is_asked_for_on_a_terminal(locked: tuple[Path, Path, Path]) -> None:
    """By a pseudo-terminal: nothing that is typed is shown."""
    pty = pytest.importorskip("pty", reason="there are no terminals here")
    folder, private, public = locked
    words = [sys.executable, "-m", "normexport_cli", "sign", str(folder), "--key", str(private)]
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, words, {**environment(), "NORMEXPORT_QUIET": "1"})
    shown, sent = b"", False
    while True:
        try:
            block = os.read(terminal, 1000)
        except OSError:
            break
        shown += block
        if not block:
            break
        if not sent and b"Password of" in shown:
            os.write(terminal, PASSWORD.encode() + b"\n")
            sent = True
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.GOOD, shown
    assert b"Password of" in shown
    assert PASSWORD.encode() not in shown
    assert normexport.verify(folder, public) == 3


def test_no_option_takes_a_password() -> None:
    help_text = CliRunner().invoke(app, ["sign", "--help"]).stdout
    assert "--password" not in help_text
    assert "NORMEXPORT_KEY_PASSWORD" in help_text


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_larger_curves_sign_too(signed: tuple[Path, Path], tmp_path: Path, curve: str) -> None:
    private, public = keys(tmp_path, "large", curve)
    normexport.sign(signed[0], private)
    assert normexport.verify(signed[0], public) == 3


def test_keys_that_are_none_are_one_line_and_leave_the_signature_as_it_was(
    signed: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, public = signed
    before = (folder / "model.sig").read_bytes()
    (tmp_path / "text").write_text("no key")
    key = rsa.generate_private_key(65537, 2048)
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "rsa").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    for name in ("text", "rsa", "missing", "mine.pub"):
        with pytest.raises(UsageError):
            normexport.sign(folder, tmp_path / name)
    assert (folder / "model.sig").read_bytes() == before
    assert not list(folder.rglob(".normexport*"))
    shutil.copyfile(tmp_path / "mine.pem", folder / "mine.pem")
    with pytest.raises(UsageError, match="would go with it"):
        normexport.sign(folder, folder / "mine.pem")
    with pytest.raises(UsageError, match="is not a folder"):
        normexport.verify(folder / "README.md", public)
