"""Where the parts of a job are computed, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from normexport.errors import UsageError

Part = TypeVar("Part")
Result = TypeVar("Result")

#: job -> what computes one part of it.
Work: TypeAlias = Callable[[Any], Callable[[Part], Result]]

_CHOICES = "give local, ray (a cluster of this machine) or ray:ADDRESS (one that runs)"


@dataclass(frozen=True)
class Where:
    """Which processes compute.

    Attributes:
        ray: whether those of a Ray cluster do, each task on one core; False: this process.
        address: of the cluster to join, "10.0.0.1:6379" or "auto"; "": one is started on this machine, and ended.
        workers: parts at a time, at most; None: as many as the cluster has cores, those of nodes that join later too.

    Raises:
        UsageError: fewer than one worker, or several in this process.
    """

    ray: bool = False
    address: str = ""
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}", "is not a number of workers", "give at least 1")
        if self.workers is not None and not self.ray:
            raise UsageError(f"--workers {self.workers}", "is for a Ray cluster", "give --on ray too, or leave it out")

    @classmethod
    def of(cls, text: str, workers: int | None = None) -> Where:
        """What a command line says: "local", "ray" or "ray:ADDRESS".

        Raises:
            UsageError: it is something else; see `Where`.
        """
        word, colon, address = text.partition(":")
        if word == "ray" and bool(colon) == bool(address):
            return cls(True, address, workers)
        if text == "local":
            return cls(workers=workers)
        raise UsageError(f"--on {text}", "is no place to compute", _CHOICES)

    @property
    def words(self) -> str:
        """As a command line says it."""
        return "local" if not self.ray else f"ray:{self.address}" if self.address else "ray"


LOCAL = Where()
