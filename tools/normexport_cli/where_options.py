"""Options that say which processes compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from normexport.errors import UsageError
from normexport.precision.config import Draw, EightBit, Half
from normexport.workers import LOCAL, Where


@dataclass(frozen=True)
class DrawOptions:
    """Which samples of the data are meant.

    Raises:
        UsageError: a number that none can be.
    """

    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", help="Only as many, drawn by --seed. All of them.")
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", show_default="0", help="Of the draw.")] = None
    skip_bad: Annotated[
        int | None,
        typer.Option(
            "--skip-bad", metavar="N", show_default="0", help="Leave out samples that can't be read, N at most."
        ),
    ] = None

    def __post_init__(self) -> None:
        self.draw()  # has refusals of its own
        if self.seed is not None and self.samples is None:
            raise UsageError(f"--seed {self.seed}", "draws nothing", "give --samples too, or leave it out")

    def draw(self) -> Draw:
        """The same in the library's terms."""
        return Draw(**self.given())

    def given(self) -> dict[str, Any]:
        """Fields of `Draw`."""
        return {"samples": self.samples, "seed": self.seed or 0, "skip_bad": self.skip_bad or 0}


@dataclass(frozen=True)
class WhereOptions:
    """Where the parts of a long work are computed.

    Raises:
        UsageError: no such place, or no such number of workers.
    """

    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="WHERE",
            show_default=LOCAL.words,
            help="Where it is computed: local, ray (a cluster of this machine) or ray:ADDRESS.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Cores of the cluster to compute on, at most. All of them."),
    ] = None

    def __post_init__(self) -> None:
        self.where()  # has refusals of its own

    def where(self) -> Where | None:
        """The same in the library's terms; None where nothing is said."""
        if self.on is None and self.workers is not None:
            raise UsageError(f"--workers {self.workers}", "is for a Ray cluster", "give --on ray too, or leave it out")
        return None if self.on is None else Where.of(self.on, self.workers)

    def placed(self, precision: Half | EightBit | None) -> Half | EightBit | None:
        """A precision that is measured there.

        Raises:
            UsageError: nothing is calibrated for it.
        """
        where = self.where()
        if where is None:
            return precision
        if not isinstance(precision, EightBit):
            raise UsageError(f"--on {where.words}", "is for calibration", "give --precision int8, or leave it out")
        return replace(precision, on=where)
