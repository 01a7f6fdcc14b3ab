"""`normexport sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub
      normexport sign out/triton --key key.pem
      normexport verify out/triton --key key.pub
    """
    with working("Signing", shown):
        import normexport

        written = normexport.sign(folder, key, signature)
    if shown.json:
        print_json({"signature": str(written)})
    else:
        result_console().print(f"signed: {written}", markup=False, soft_wrap=True)
