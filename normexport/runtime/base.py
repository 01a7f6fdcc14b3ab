"""What every runtime offers: names, the shapes it accepts, and `run`, the same call on all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.errors import UsageError

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]
Sink: TypeAlias = Callable[[str, Array], None]


@dataclass(frozen=True)
class Port:
    """One input: its name, numpy dtype name, and shape (None: that size, or the whole shape, is free)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None = None

    @property
    def floating(self) -> bool:
        return self.dtype.startswith(("float", "bfloat"))


class Runtime(Protocol):
    """Something that computes a model's outputs, and on demand its inner values, from numpy arrays.

    Attributes:
        name: for reports, "PyTorch float64".
        inputs: what `run` must be fed.
        output_names: in the model's order; the same names in every runtime of one model.
        passive_capture: capturing leaves the computation as it is (torch hooks), so outputs of a capturing run
            count; ONNX Runtime fuses less when inner values are asked for.
        dropped: of the last run, the names asked for that could not be given, each with the reason.
    """

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[Port, ...]: ...
    @property
    def input_names(self) -> tuple[str, ...]: ...
    @property
    def output_names(self) -> tuple[str, ...]: ...
    @property
    def passive_capture(self) -> bool: ...
    @property
    def dropped(self) -> Mapping[str, str]: ...

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """Outputs and captured values by name.

        Args:
            feeds: one array per input. Floating-point arrays are rounded to the runtime's own precision,
                integers must have the input's dtype.
            capture: names of inner values wanted beside the outputs.
            sink: receives each captured value, in execution order, instead of the result holding it; the
                array is only valid during the call. This is how a float64 reference is judged layer by layer
                without being kept.

        Raises:
            UsageError: an input is missing, unknown or of the wrong rank, shape or dtype.
        """
        ...


#: What opens an ONNX model: `OnnxRuntime`, or another runtime that its class stands for.
Opener: TypeAlias = Callable[[ir.Model], Runtime]


def checked_feeds(place: str, ports: Sequence[Port], feeds: Feeds) -> dict[str, Array]:
    """`feeds` in the order of `ports`, floating-point ones rounded to the port's dtype.

    Raises:
        UsageError: see `Runtime.run`.
    """
    names = [port.name for port in ports]
    for name in feeds:
        if name not in names:
            raise UsageError(place, f"has no input {name}", f"its inputs are {', '.join(names)}")
    for name in names:
        if name not in feeds:
            raise UsageError(place, f"input {name} is missing", f"feed all of {', '.join(names)}")
    return {port.name: _checked_feed(place, port, np.asarray(feeds[port.name])) for port in ports}


def _checked_feed(place: str, port: Port, array: Array) -> Array:
    where = f"{place}: input {port.name}"
    if port.shape is not None:
        wanted = "(" + ", ".join("batch" if size is None else str(size) for size in port.shape) + ")"
        fits = len(port.shape) == array.ndim and all(
            size in (None, given) for size, given in zip(port.shape, array.shape, strict=True)
        )
        if not fits:
            raise UsageError(where, f"has shape {array.shape}, expected {wanted}", "feed arrays of that shape")
    if port.floating and np.issubdtype(array.dtype, np.floating):
        return array.astype(port.dtype, copy=False)
    if array.dtype != np.dtype(port.dtype):
        raise UsageError(where, f"has dtype {array.dtype}, expected {port.dtype}", f"feed {port.dtype} arrays")
    return array


def port(name: str, sizes: Sequence[object], dtype: str) -> Port:
    """A port from a shape whose symbolic sizes are anything but ints."""
    return Port(name, dtype, tuple(size if isinstance(size, int) else None for size in sizes))
