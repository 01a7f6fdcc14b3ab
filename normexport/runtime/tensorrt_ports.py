"""What an opened TensorRT engine reads and writes, told by the engine itself, and held against the plan's manifest.

Inputs and outputs are handed over as addresses: a name, type or shape that is not the engine's own makes it read or
write memory that is not the tensor's. So none of them is taken from the manifest, which anybody can edit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normexport.dtypes import FLOAT32, HALVES, of_tensorrt
from normexport.engine.manifest import Manifest, PlanTensor, Shape
from normexport.errors import EngineError, UsageError

#: Types that a tensor of PyTorch can hold.
_DTYPES = (FLOAT32.name, *HALVES, "int64", "int32", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Ports:
    """Inputs, with the shapes of the engine's profiles, and outputs; each in the engine's order."""

    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]


def ports_of(trt: Any, engine: Any) -> Ports:
    """The tensors of an `ICudaEngine` of the vendor's module `trt`.

    Raises:
        EngineError: one of them can't be handed over as a plain tensor on the GPU.
    """
    inputs, outputs = [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            inputs.append(_tensor(trt, engine, name, is_input=True))
        else:
            outputs.append(_tensor(trt, engine, name, is_input=False))
    return Ports(tuple(inputs), tuple(outputs))


def is_within(shape: Shape, smallest: Shape, largest: Shape) -> bool:
    """Whether each size lies between those of the two ends, both included."""
    return len(shape) == len(smallest) and all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))


def profile_for(inputs: Sequence[PlanTensor], shapes: Sequence[Shape]) -> int | None:
    """The profile in which these shapes of the inputs run: of those that have them, the one that expects them most.

    Its expected sizes are nearest by their ratio, sum |log(size / expected)|; of equals the first. None has them: None.
    """
    distances = {}
    for index in range(len(inputs[0].profiles) if inputs else 1):
        pairs = [(shape, each.profiles[index]) for shape, each in zip(shapes, inputs, strict=True)]
        if all(is_within(shape, low, high) for shape, (low, _, high) in pairs):
            distances[index] = sum(_distance(shape, usual) for shape, (_, usual, _) in pairs)
    return min(distances, key=lambda index: distances[index], default=None)


def _distance(shape: Shape, usual: Shape) -> float:
    return sum(abs(math.log(max(size, 1) / max(other, 1))) for size, other in zip(shape, usual, strict=True))


def check_manifest(ports: Ports, manifest: Manifest, place: str) -> None:
    """Whether the manifest tells what the engine is.

    Raises:
        UsageError: it says something else.
    """
    for kind, found, told in (
        ("input", ports.inputs, manifest.inputs),
        ("output", ports.outputs, manifest.outputs),
    ):
        by_name = {each.name: each for each in told}
        for tensor in found:
            other = by_name.pop(tensor.name, None)
            if other is None or not _agree(tensor, other):
                said = "knows none of that name" if other is None else f"says {_words(other)}"
                raise _contradiction(place, f"has the {kind} {tensor.name} {_words(tensor)}, and its manifest {said}")
        if by_name:
            raise _contradiction(place, f"has no {kind} {next(iter(by_name))}, which its manifest names")


def _tensor(trt: Any, engine: Any, name: str, *, is_input: bool) -> PlanTensor:
    dtype = of_tensorrt(engine.get_tensor_dtype(name).name.lower())
    if dtype not in _DTYPES:
        cause = f"is of the type {dtype}, and inputs and outputs are {', '.join(_DTYPES)}"
        raise EngineError(f"tensor {name}", cause, "cast it in the model")
    if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        raise EngineError(f"tensor {name}", "is read as a shape, in the host's memory", "export it as a constant")
    if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise EngineError(f"tensor {name}", "is laid out in vectors of channels", "build the plan with normexport")
    shape = tuple(engine.get_tensor_shape(name))
    if not is_input:
        return PlanTensor(name, dtype, shape)
    first, *more = (_profile(engine, name, index) for index in range(engine.num_optimization_profiles))
    return PlanTensor(name, dtype, shape, *first, tuple(more))


def _profile(engine: Any, name: str, index: int) -> tuple[Shape, Shape, Shape]:
    smallest, expected, largest = engine.get_tensor_profile_shape(name, index)
    return tuple(smallest), tuple(expected), tuple(largest)


def _agree(tensor: PlanTensor, told: PlanTensor) -> bool:
    """Whether type, shape and profile are the same. An open size goes with any: a profile of one size may close it."""
    same_shape = len(tensor.shape) == len(told.shape) and all(
        a == b or -1 in (a, b) for a, b in zip(tensor.shape, told.shape, strict=True)
    )
    ends = [[(low, high) for low, _, high in each.profiles] for each in (tensor, told)]
    same_profiles = told.smallest is None or ends[0] == ends[1]
    return tensor.dtype == told.dtype and same_shape and same_profiles


def _words(tensor: PlanTensor) -> str:
    spans = ", ".join(f"{low} to {high}" for low, _, high in tensor.profiles)
    return f"{tensor.dtype} {tensor.shape}" + (f", {spans}" if tensor.smallest is not None else "")


def _contradiction(place: str, cause: str) -> UsageError:
    return UsageError(place, cause, "build it again; do not run it")
