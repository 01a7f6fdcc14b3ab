"""What two models are compared on, as several commands ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from normexport.errors import UsageError
from normexport.verbs.config import RUNTIMES, require_runtime
from normexport_cli.options import Runtime


@dataclass(frozen=True)
class CompareOptions:
    """What two models are compared on.

    Raises:
        UsageError: `--batches` is not a list of sizes, or there is no such runtime.
    """

    PANEL: ClassVar = "What is compared"

    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="PATH", help="Real inputs to compare on too: an .npz by input names, a folder of images."
        ),
    ] = None
    batches: Annotated[
        str | None,
        typer.Option(
            "--batches", metavar="SIZES", help="Batch sizes to compare at: 1,8. By default 1, 2 and 7, or fitting."
        ),
    ] = None

    runtime: Runtime = RUNTIMES[0]

    def __post_init__(self) -> None:
        require_runtime(self.runtime)
        _ = self.sizes

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Batch sizes, each once; None where none are given."""
        if self.batches is None:
            return None
        sizes = [part.strip() for part in self.batches.split(",")]
        if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 and int(part) for part in sizes):
            raise UsageError(f"--batches {self.batches}", "is not a list of batch sizes", "write it as 1,8")
        return tuple(dict.fromkeys(int(part) for part in sizes))
