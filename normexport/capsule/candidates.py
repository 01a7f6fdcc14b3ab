"""What can be judged by a capsule: an ONNX file, a plan, or arrays that another program made. None of them needs torch.

An .npz file of arrays calls the output `logits` of run number 2 "2/logits", and a boundary of the run that has them
likewise; where a capsule has one run, plain names do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from normexport.capsule.content import Capsule, Reference, Run, type_name
from normexport.dtypes import HALVES
from normexport.engine import Manifest
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.precision.half.rounding import rounding_in_float32
from normexport.proof import Batch, require_room
from normexport.runtime import Array, OnnxRuntime, Runtime
from normexport.runtime.around import in_float32
from normexport.runtime.tensorrt_runtime import Plan


class Absent(str):
    """Why a candidate has no such value."""


#: Ranges of batch sizes, each by its ends.
Batches = Sequence[tuple[int, int]]

#: A value, or what is wrong with it.
Given = Array | str


class Candidate(Protocol):
    """Something that has values for the runs of a capsule.

    Attributes:
        name: for reports.
        types: of its outputs by name, "float16"; where there is none, numbers of any width are as good.
    """

    @property
    def name(self) -> str: ...
    @property
    def types(self) -> Mapping[str, str]: ...

    def lacks(self, number: int, run: Run) -> str | None:
        """Why it has no values at all for the run of this number; None: it has."""
        ...

    def give(
        self, number: int, run: Run, boundaries: Mapping[str, Reference], sink: Callable[[str, Given], None]
    ) -> dict[str, Given]:
        """Its outputs by name; each of the boundaries goes to `sink`, and is valid during that call alone."""
        ...


class RuntimeCandidate:
    """A runtime, the types of its outputs, and the batch sizes that its inputs take."""

    def __init__(
        self, runtime: Runtime, types: Mapping[str, str], batches: Mapping[str, Batches] | None = None
    ) -> None:
        self._runtime, self.types = runtime, types
        self._batches = dict(batches or {})
        for port in runtime.inputs:
            if port.shape and port.shape[0] is not None:
                self._batches.setdefault(port.name, ((port.shape[0], port.shape[0]),))
        self.name = runtime.name

    def lacks(self, number: int, run: Run) -> str | None:
        """Where it takes other batch sizes alone. What else does not fit is an error, as in `parity`."""
        for name, ranges in self._batches.items():
            shape = run.feeds[name].shape if name in run.feeds else ()
            if shape and not any(least <= shape[0] <= most for least, most in ranges):
                words = (f"{least} to {most}" if most > least else f"{least}" for least, most in ranges)
                return f"the candidate takes a batch of {', or '.join(dict.fromkeys(words))}"
        return None

    def give(
        self, number: int, run: Run, boundaries: Mapping[str, Reference], sink: Callable[[str, Given], None]
    ) -> dict[str, Given]:
        """Runs once for outputs and boundaries where looking inside leaves outputs as they are, else twice."""
        outputs = None if boundaries and self._runtime.passive_capture else self._runtime.run(run.feeds)
        if boundaries:
            given = set()

            def keep(name: str, value: Array) -> None:
                given.add(name)
                sink(name, value)

            captured = self._runtime.run(run.feeds, list(boundaries), keep)
            outputs = captured if outputs is None else outputs
            for name in boundaries.keys() - given:
                sink(name, Absent(self._runtime.dropped.get(name, "is not in the candidate")))
        assert outputs is not None
        return {output.name: outputs.get(output.name, Absent("is missing")) for output in run.outputs}


class ArraysCandidate:
    """Arrays in a file."""

    def __init__(self, path: Path, stored: Mapping[str, StoredArray], capsule: Capsule) -> None:
        self.name = path.name
        self.types: Mapping[str, str] = {}
        self._stored, self._plain = stored, len(capsule.runs) == 1
        self._boundary_run, self._boundaries = capsule.boundary_run, capsule.boundaries

    def lacks(self, number: int, run: Run) -> str | None:
        """Where it holds nothing of the run."""
        wanted = (*run.outputs, *(self._boundaries if number == self._boundary_run else ()))
        held = any(self._key(number, reference) is not None for reference in wanted)
        return None if held else f"the candidate holds no array of it, such as {number}/{run.outputs[0].name}"

    def give(
        self, number: int, run: Run, boundaries: Mapping[str, Reference], sink: Callable[[str, Given], None]
    ) -> dict[str, Given]:
        """Nothing is read whose shape or type tells that it can't be right."""
        for name, boundary in boundaries.items():
            sink(name, self._value(number, boundary, "is not in the candidate"))
        missing = f"is missing ({number}/{{}})"
        return {output.name: self._value(number, output, missing.format(output.name)) for output in run.outputs}

    def _key(self, number: int, reference: Reference) -> str | None:
        names = (f"{number}/{reference.name}", *((reference.name,) if self._plain else ()))
        return next((name for name in names if name in self._stored), None)

    def _value(self, number: int, reference: Reference, missing: str) -> Given:
        key = self._key(number, reference)
        if key is None:
            return Absent(missing)
        stored = self._stored[key]
        if stored.shape != reference.shape:
            return f"shape {stored.shape}, expected {reference.shape}"
        if stored.dtype.kind not in "fiub":
            return f"dtype {stored.dtype}, expected {reference.values.dtype.name}"
        return stored.read()


@contextmanager
def arrays_candidate(path: Path, capsule: Capsule) -> Iterator[Candidate]:
    """The arrays of an .npz file.

    Raises:
        UsageError: it can't be read, or holds no plain arrays.
    """
    with opened_arrays(path) as stored:
        yield ArraysCandidate(path, stored, capsule)


def onnx_candidate(model: ir.Model, capsule: Capsule) -> Candidate:
    """An ONNX model on ONNX Runtime; values of half precision are rounded as the file says.

    Raises:
        FoldError, MissingComponent, UsageError: see `OnnxRuntime` and `require_room`.
    """
    require_room(model, [Batch(run.name, run.size, {}) for run in capsule.runs])
    types = {str(value.name): type_name(value.dtype) for value in model.graph.outputs}
    values = (*model.graph.inputs, *(value for node in model.graph for value in node.outputs))
    halves = sorted({type_name(value.dtype) for value in values} & set(HALVES))
    if not halves:
        return RuntimeCandidate(OnnxRuntime(model), types)
    name = f"ONNX Runtime, rounded to {' and '.join(halves)}"
    return RuntimeCandidate(in_float32(OnnxRuntime(rounding_in_float32(model)), name), types)


def plan_candidate(plan: Plan, manifest: Manifest) -> Candidate:
    """A plan on this machine's GPU.

    Raises:
        UsageError, MissingComponent, EngineError: see `TensorRTRuntime`.
    """
    runtime = plan.runtime()
    types = {tensor.name: tensor.dtype for tensor in manifest.outputs}
    batches = {
        each.name: tuple((least[0], most[0]) for least, _, most in each.profiles)
        for each in manifest.inputs
        if each.smallest
    }
    return RuntimeCandidate(in_float32(runtime), types, batches)
