"""Cases for the plugin host, on emulated kernels or on a GPU: what it is given, and what it must answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexport import norms
from normexport.norms import Scope
from tests.plugins.cuda_emulated.emulated import DTYPES, PADDING, Norm, addresses, sample_elements
from tests.plugins.cuda_emulated.expected import error, reference, sample

#: TensorRT's enumerators.
TYPES = {"float32": 0, "float16": 1, "int8": 2, "bfloat16": 7}
FORMATS = {
    4: {"LINEAR": 0, "CHW2": 1, "HWC8": 2, "CHW4": 3, "CHW32": 5, "HWC": 8, "HWC16": 11},
    5: {"LINEAR": 0, "HWC8": 6, "CHW32": 7, "HWC": 12},
}
FLOATS = tuple(name for name in TYPES if name != "int8")


@dataclass(frozen=True)
class Case:
    norm: Norm
    shape: tuple[int, ...]
    largest_batch: int = 4

    @property
    def op(self) -> str:
        name = norms.KINDS[self.norm.kind].op(Scope.of(self.norm.instance))
        return f"Q{name}" if self.norm.type == "int8" else name

    @property
    def cube(self) -> tuple[int, int, int]:
        samples, channels, *rest = self.shape
        return samples, channels, int(np.prod(rest))

    def line(self, files: Path) -> str:
        code = FORMATS.get(len(self.shape), {"LINEAR": 0})[self.norm.layout]
        words = (files, self.op, TYPES[self.norm.type], code, len(self.shape), *self.shape, self.largest_batch)
        return " ".join(map(str, (*words, self.norm.epsilon, self.norm.correction, self.norm.k, self.norm.chunks)))


def cases() -> list[Case]:
    """Every operator, type and format of images; a few of each for vectors, sequences and volumes."""
    found = []
    for kind, type_, instance in itertools.product(norms.KINDS, TYPES, (False, True)):
        found += [Case(Norm(kind, type_, layout, instance), (3, 5, 6, 7)) for layout in FORMATS[4]]
        found += [Case(Norm(kind, type_, layout, instance), (2, 9, 2, 3, 4)) for layout in FORMATS[5]]
        found += [Case(Norm(kind, type_, "LINEAR", instance, correction=1.5), (4, 3, 17))]
        if not instance:
            found += [Case(Norm(kind, type_, "LINEAR", epsilon=0.1), (16, 6), largest_batch=16)]
    return found


@dataclass(frozen=True)
class Written:
    """A case whose files lie at `files`: x as stored, and where its elements lie in it."""

    case: Case
    files: Path
    where: NDArray[np.int64]
    x: NDArray[Any]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]

    def y(self) -> NDArray[Any]:
        """What the plugin wrote, padding included."""
        return np.frombuffer(Path(f"{self.files}.y").read_bytes(), DTYPES[self.case.norm.type])

    def fault(self) -> str:
        """What is wrong with y, "" for nothing."""
        y, norm = self.y(), self.case.norm
        right = reference(norm, self.x, self.scale, self.bias)
        padding = np.ones(len(y), bool)
        padding[self.where] = False
        if y[padding].astype(np.float32).any():
            return f"{self.case}: lanes beyond the channels are not zero"
        if norm.type == "int8":
            return "" if np.array_equal(y[self.where], right) else f"{self.case}: bytes differ"
        worst = error(norm, y[self.where], right, self.scale, self.bias).max()
        return "" if worst <= 1 else f"{self.case}: {worst:.3g} times the allowed error"


def write(folder: Path) -> tuple[Path, list[Written]]:
    """The list of all cases for the host, and what was written for each."""
    made = []
    for number, case in enumerate(cases()):
        x, scale, bias = sample(case.norm, case.cube, seed=number)
        one = sample_elements(case.norm.layout, *case.cube[1:])
        where = addresses(case.norm.layout, case.cube, one)
        stored = np.full(case.cube[0] * one, PADDING[case.norm.type]).astype(DTYPES[case.norm.type])
        stored[where] = x
        each = Written(case, folder / str(number), where, x, scale.astype(np.float32), bias.astype(np.float32))
        for suffix, array in (("x", stored), ("scale", each.scale), ("bias", each.bias)):
            Path(f"{each.files}.{suffix}").write_bytes(array.tobytes())
        made.append(each)
    listed = folder / "cases"
    listed.write_text("".join(each.case.line(each.files) + "\n" for each in made))
    return listed, made


def faults(written: Sequence[Written]) -> list[str]:
    """What is wrong with the answers, case by case."""
    return [fault for fault in (each.fault() for each in written) if fault]
