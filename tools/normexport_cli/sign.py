"""`normexport sign`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import UsageError
from normexport.text import one_line
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="What `convert` wrote, or a bundle.")]
Key = Annotated[Path, typer.Option("--key", metavar="KEY.pem", help="The private key: an elliptic curve, PEM.")]
Signature = Annotated[
    Path | None, typer.Option("--signature", metavar="FILE", help="Where it goes; by default model.sig in FOLDER.")
]


@grouped
def sign(folder: Folder, *, key: Key, signature: Signature = None, shown: OutputOptions) -> None:
    """Sign every file of a folder with your key, as OpenSSF's model signature; no network is needed.

    The password of an encrypted key is asked for on the terminal, or taken from NORMEXPORT_KEY_PASSWORD.

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub
      normexport sign out/triton --key key.pem
      normexport verify out/triton --key key.pub
    """
    password = _password(key)
    with working("Signing", shown):
        import normexport

        written = normexport.sign(folder, key, signature, password=password)
    if shown.json:
        print_json({"signature": str(written)})
    else:
        result_console().print(f"signed: {written}", markup=False, soft_wrap=True)


def _password(key: Path) -> str | None:
    """Of an encrypted key, and never out of the command line, which every process can read.

    Raises:
        UsageError: there is none, and nobody to ask.
    """
    from getpass import getpass

    from normexport.provenance.signing import PASSWORD, is_encrypted

    if not is_encrypted(key):
        return None
    known = os.environ.get(PASSWORD)
    if known is None and sys.stdin.isatty():
        known = getpass(f"Password of {one_line(key)}: ", sys.stderr)
    if not known:
        raise UsageError(str(key), "is encrypted, and nobody is there to ask", f"put its password into {PASSWORD}")
    return known
