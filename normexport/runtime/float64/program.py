"""A graph as a list of steps, each bound to its function, that frees every value after its last use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.errors import FoldError, NormExportError, UsageError
from normexport.runtime.float64.registry import Call, Endless, Kernel, Value
from normexport.runtime.float64.types import array_of
from normexport.text import first_line

#: Called with each value as it is computed.
Watch = Callable[[ir.Value, Value], None]
#: What becomes of a value as it is computed: the same, or rounded to the type that a file stores it in.
Store = Callable[[ir.Value, Value], Value]


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        place: names it in messages.
        call: what `kernel` gets first; without `bodies`, which belong to a run.
        subgraphs: by the name of their attribute.
        frees: values that nothing reads later.
    """

    place: str
    kernel: Kernel
    call: Call
    inputs: tuple[ir.Value | None, ...]
    outputs: tuple[ir.Value, ...]
    subgraphs: Mapping[str, Program]
    frees: tuple[ir.Value, ...]


class Frame:
    """The values of one run of a program, and those around it where it is a subgraph."""

    def __init__(self, program: Program, outer: Frame | None, store: Store | None = None) -> None:
        self.values: dict[ir.Value, Value] = {}
        self._program, self._outer, self._store = program, outer, store

    def __getitem__(self, value: ir.Value) -> Value:
        if value in self.values:
            return self.values[value]
        if value in self._program.constants:  # widened at its first use, freed after its last
            constant = _constant(self._program.constants[value])
            return self.values.setdefault(value, constant if self._store is None else self._store(value, constant))
        if self._outer is not None:
            return self._outer[value]
        raise UsageError("float64 interpreter", f"value {value.name} is read before it is computed", "sort the graph")


class Program:
    """The steps of a graph or function.

    Attributes:
        constants: initializers, and the values of Constant nodes, as they are stored.
    """

    def __init__(
        self,
        inputs: Iterable[ir.Value],
        outputs: Iterable[ir.Value],
        constants: Mapping[ir.Value, Any],
        steps: Sequence[Step],
    ) -> None:
        self.inputs, self.outputs, self.constants = tuple(inputs), tuple(outputs), constants
        self.steps = _with_frees(steps, {*self.inputs, *constants}, set(self.outputs))
        own = {*self.inputs, *constants, *(value for step in steps for value in step.outputs)}
        reads = {value for step in steps for value in _reads(step)} | set(self.outputs)
        #: Values of the graphs around this one that it reads.
        self.captures = tuple(reads - own)

    def run(
        self,
        inputs: Sequence[Value],
        outer: Frame | None = None,
        watch: Watch | None = None,
        store: Store | None = None,
    ) -> list[Value]:
        """The outputs for these inputs; a missing input at the end is None. `watch` sees values as `store` leaves them.

        Raises:
            UsageError: the node that can't compute, and why.
            FoldError: the Loop that does not end.
        """
        frame = Frame(self, outer, store)
        frame.values.update(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            results = _results(step, frame)
            for value, result in zip(step.outputs, results, strict=False):
                if value.name:
                    result = result if store is None else store(value, result)
                    frame.values[value] = result
                    if watch is not None:
                        watch(value, result)
            del results
            for value in step.frees:
                frame.values.pop(value, None)
        return [frame[value] for value in self.outputs]

    def constant(self, value: ir.Value) -> Value:
        """What a constant holds, as it is computed with."""
        return _constant(self.constants[value])


def _results(step: Step, frame: Frame) -> tuple[Value, ...]:
    call = step.call
    if step.subgraphs:
        bodies = {name: _body(program, frame) for name, program in step.subgraphs.items()}
        call = Call(call.operator, call.version, call.attributes, call.outputs, bodies, call.with_torch)
    try:
        results = step.kernel(call, *[None if value is None else frame[value] for value in step.inputs])
    except NormExportError:
        raise
    except Endless as error:
        raise FoldError(step.place, str(error), "check its condition") from error
    except Exception as error:  # numpy, torch and the functions raise many kinds; all concern these inputs
        cause = f"can't compute this ({first_line(error)})"
        raise UsageError(step.place, cause, "check the input shapes") from error
    results = results if isinstance(results, tuple) else (results,)
    return tuple(np.asarray(each) if isinstance(each, np.generic) else each for each in results)


def _body(program: Program, frame: Frame) -> Callable[[list[Value]], list[Value]]:
    return lambda inputs: program.run(inputs, frame)


def _with_frees(steps: Sequence[Step], own: set[ir.Value], kept: set[ir.Value]) -> tuple[Step, ...]:
    """The steps with `frees` filled in, from the last to the first."""
    own = own | {value for step in steps for value in step.outputs}
    later: set[ir.Value] = set(kept)
    result = []
    for step in reversed(steps):
        touched = {value for value in (*_reads(step), *step.outputs) if value in own}
        frees = tuple(touched - later)
        later |= touched
        result.append(Step(step.place, step.kernel, step.call, step.inputs, step.outputs, step.subgraphs, frees))
    return tuple(reversed(result))


def _reads(step: Step) -> list[ir.Value]:
    inside = [value for program in step.subgraphs.values() for value in program.captures]
    return [*(value for value in step.inputs if value is not None), *inside]


def _constant(stored: Any) -> Value:
    return stored if isinstance(stored, np.ndarray) else array_of(stored)
