"""`normexport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="What was signed.")]
Key = Annotated[Path, typer.Option("--key", metavar="KEY.pub", help="The public key of whoever signed it, PEM.")]
Signature = Annotated[
    Path | None, typer.Option("--signature", metavar="FILE", help="Where it is; by default model.sig in FOLDER.")
]


@grouped
def verify(folder: Folder, *, key: Key, signature: Signature = None, shown: OutputOptions) -> None:
    """Check that a folder holds what the owner of a key has signed: no file more, less or other.

    Exit code 0: it does; 2: it does not, and the line says what is wrong.

    \b
      normexport verify out/triton --key key.pub
    """
    with working("Verifying", shown):
        import normexport

        files = normexport.verify(folder, key, signature)
    if shown.json:
        print_json({"verified": True, "files": files})
    else:
        result_console().print(f"verified: {folder}, {files} files", markup=False, soft_wrap=True)
