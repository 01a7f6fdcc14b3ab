"""Runs of an ONNX model wherever samples are computed: the same bytes on one process and on a hundred."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.runtime import Array, Feeds, OnnxRuntime
from normexport.runtime.computed_by import computed_by
from normexport.workers import Where, run_in_order

#: What one run is given, and what of inner values is wanted.
Run = tuple[Feeds, tuple[str, ...]]
#: What it gave, the seconds that it took, and what computed it.
Ran = tuple[dict[str, Array], float, str]


@dataclass(frozen=True)
class Elsewhere:
    """A model to be run in parts, each by one thread of ONNX Runtime."""

    where: Where
    model: ir.Model

    def run(self, runs: Iterable[Feeds], wanted: Collection[str]) -> Iterator[tuple[dict[str, Array], float]]:
        """Outputs and `wanted` values of each run, in their order, and the seconds that it took.

        Raises:
            UsageError: workers have other versions of ONNX Runtime, other processors or other native libraries.
        """
        names = tuple(wanted)
        first = ""
        parts = ((feeds, names) for feeds in runs)
        for values, seconds, computer in run_in_order(self.where, open_runs, as_bytes(self.model), parts):
            first = first or computer
            require_same(self.where, first, computer)
            yield values, seconds


def as_bytes(model: ir.Model) -> bytes:
    """A model as it travels to other processes."""
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def from_bytes(content: bytes) -> ir.Model:
    """The model that `as_bytes` was given."""
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(content))
    return model


def open_runs(model: bytes) -> Callable[[Run], Ran]:
    """What computes a run, with the model open."""
    opened = from_bytes(model)
    runtime, computer = OnnxRuntime(opened, threads=1), computed_by(opened)

    def run(part: Run) -> Ran:
        feeds, wanted = part
        start = time.perf_counter()
        values = runtime.run(feeds, wanted)
        return values, time.perf_counter() - start, computer

    return run


def require_same(where: Where, first: str, other: str) -> None:
    """Refuse workers that do not round alike.

    Raises:
        UsageError: they do not.
    """
    if first != other:
        cause = f"has workers that round otherwise: {first}; {other}"
        raise UsageError(f"--on {where.words}", cause, "let all nodes have the same packages, libraries and processors")
