"""`normexport prove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Capsule = Annotated[Path, typer.Argument(metavar="CAPSULE", help="What `normexport convert --capsule` wrote.")]
Candidate = Annotated[
    Path | None,
    typer.Argument(metavar="[CAND]", help="An ONNX file, a plan, or an .npz of arrays that another program made."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A model on a server instead: http://host:8000/MODEL or grpc://..."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", show_default="30", help="Seconds that the server may take for one answer."),
]
Layers = Annotated[bool, typer.Option("--layers", metavar="", help="Show every module boundary, not only the worst.")]


@grouped
def prove(
    capsule: Capsule,
    candidate: Candidate = None,
    *,
    url: Url = None,
    timeout: Timeout = None,
    layers: Layers = False,
    trust: options.Trust = False,
    weights_under: options.WeightsUnder = None,
    shown: OutputOptions,
) -> None:
    """Judge a candidate by a capsule: without the checkpoint, without PyTorch.

    An .npz calls the output y of run 2 "2/y". A plan needs its GPU. A server speaks KServe v2, as Triton does. Exit
    code 0: proven, 1: wrong, 7: neither.

    \b
      normexport prove model.capsule.npz out/model.onnx
      normexport prove model.capsule.npz results.npz --layers
      normexport prove model.capsule.npz --url grpc://localhost:8001/resnet
    """
    with working("Proving", shown):
        import normexport
        from normexport.runtime.served_address import TIMEOUT

        seconds = TIMEOUT if timeout is None else timeout
        result = normexport.prove(
            capsule, candidate, trust=trust, weights_under=weights_under, url=url, timeout=seconds
        )
    if shown.json:
        print_json(result.as_dict())
    else:
        from normexport.reports.parity_table import show_parity

        show_parity(result_console(), result, every_layer=layers)
    raise typer.Exit(result.judgement.verdict.exit_code)
