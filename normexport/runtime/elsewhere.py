"""A model on other processes: how it travels there, that all of them round alike, and its outputs of many inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.runtime.base import Array, Feeds, Port, Runtime, Sink
from normexport.runtime.computed_by import computed_by
from normexport.runtime.float64 import Float64Runtime
from normexport.runtime.onnx_runtime import OnnxRuntime
from normexport.workers import Where, run_in_order


def as_bytes(model: ir.Model) -> bytes:
    """A model as it travels to other processes."""
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def from_bytes(content: bytes) -> ir.Model:
    """The model that `as_bytes` was given."""
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(content))
    return model


def require_same(where: Where, first: str, other: str) -> None:
    """Refuse workers that do not round alike.

    Raises:
        UsageError: they do not.
    """
    if first != other:
        cause = f"has workers that round otherwise: {first}; {other}"
        raise UsageError(f"--on {where.words}", cause, "let all nodes have the same packages, libraries and processors")


@dataclass(frozen=True)
class _Job:
    """A model, and what runs it: in float64, or on one thread of ONNX Runtime with its weights moved by a seed."""

    model: bytes
    double: bool
    jitter: int | None

    def opened(self) -> tuple[Runtime, str]:
        """The runtime, and what it computes by."""
        model = from_bytes(self.model)
        runtime = Float64Runtime(model) if self.double else OnnxRuntime(model, threads=1, jitter=self.jitter)
        return runtime, computed_by(model)


class RuntimeElsewhere:
    """A runtime whose `run_all` computes many inputs at once, on other processes; `run` is of this one.

    Each input is computed by one thread, so that the bytes are the same wherever it is.

    Args:
        double: compute in float64; else on ONNX Runtime.
        jitter: see `OnnxRuntime`.
    """

    passive_capture = False

    def __init__(self, where: Where, model: ir.Model, *, double: bool = False, jitter: int | None = None) -> None:
        self.where, self._job = where, _Job(as_bytes(model), double, jitter)
        self._here, self._computer = self._job.opened()
        self.name = self._here.name

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self._here.inputs

    @property
    def input_names(self) -> tuple[str, ...]:
        return self._here.input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._here.output_names

    @property
    def dropped(self) -> Mapping[str, str]:
        return self._here.dropped

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """See `Runtime.run`."""
        return self._here.run(feeds, capture, sink)

    def run_all(self, inputs: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
        """The outputs of each, in their order.

        Raises:
            UsageError: see `Runtime.run` and `require_same`.
        """
        for values, computer in run_in_order(self.where, open_runtime, self._job, map(dict, inputs)):
            require_same(self.where, self._computer, computer)
            yield values


def open_runtime(job: _Job) -> Callable[[Feeds], tuple[dict[str, Array], str]]:
    """What computes one input, with the model open, and says by what."""
    runtime, computer = job.opened()
    return lambda feeds: (runtime.run(feeds), computer)


def run_each(runtime: Runtime, feeds: Iterable[Feeds]) -> Iterator[Mapping[str, Array]]:
    """What a runtime gives for each input, in their order: many at once where other processes compute them."""
    yield from runtime.run_all(feeds) if isinstance(runtime, RuntimeElsewhere) else map(runtime.run, feeds)
