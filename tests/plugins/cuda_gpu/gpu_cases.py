"""What is run on the device: every kind, type and layout on odd shapes, and shapes as large as networks have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from normexport.plugins.cuda import LAYOUTS
from tests.plugins.cuda_emulated.emulated import KINDS, TYPES, Norm

#: (N, C, S): vectors with a rest, one position, one element, many channels, channels that no lane count divides.
ODD = [(2, 5, 63), (3, 37, 16), (4, 6, 1), (1, 3, 1), (2, 17, 49), (1, 1, 300), (5, 2, 3137)]
#: From what one block holds to what only the whole device holds.
LARGE = [(8, 64, 3136), (32, 256, 196), (1, 256, 3136), (16, 8, 50176), (2, 2, 1_000_003)]
LARGE_LAYOUTS = ("LINEAR", "CHW32", "HWC8", "HWC")


@dataclass(frozen=True)
class DeviceCase:
    """One norm on one shape; options are those of `emulated.run`."""

    norm: Norm
    shape: tuple[int, int, int]
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def family(self) -> str:
        """The row of the report that it counts in."""
        return f"{self.norm.type} {self.norm.layout}"


def odd_cases() -> Iterator[DeviceCase]:
    """Every kind, type and layout, batch and instance; unaligned, in place, samples apart."""
    for dtype, layout, kind, instance, shape in product(TYPES, LAYOUTS, KINDS, (False, True), ODD):
        n = shape[2] if instance else shape[0] * shape[2]
        yield DeviceCase(Norm(kind, dtype, layout, instance, k=min(3, n)), shape)
    for dtype, layout, kind in product(TYPES, LAYOUTS, KINDS):
        yield DeviceCase(Norm(kind, dtype, layout), (2, 17, 49), (("offset", 1),))
        yield DeviceCase(Norm(kind, dtype, layout), (2, 17, 49), (("in_place", True),))
        yield DeviceCase(Norm(kind, dtype, layout, pad=(5, 16)), (3, 5, 64))
    for dtype in TYPES:
        yield DeviceCase(Norm("topk", dtype, k=2500), (1, 2, 5000))
        yield DeviceCase(Norm("range", dtype, chunks=1000), (3, 2, 20_000))
        yield DeviceCase(Norm("l1", dtype, correction=0.7), (2, 3, 40))


def large_cases() -> Iterator[DeviceCase]:
    for dtype, layout, kind, shape in product(TYPES, LARGE_LAYOUTS, KINDS, LARGE):
        if layout == "LINEAR" or shape != LARGE[-1]:
            yield DeviceCase(Norm(kind, dtype, layout, k=10, chunks=16), shape)


def sanitizer_lines() -> Iterator[str]:
    """Cases for `run_cases`, small: a sanitizer makes a kernel some hundred times slower."""
    for dtype, layout, kind, instance in product(TYPES.values(), LAYOUTS.values(), KINDS.values(), (0, 1)):
        for batch, channels, space in ((2, 17, 49), (3, 2, 5000)):
            yield f"{kind} {dtype} {layout} {instance} {batch} {channels} {space} 0 0 3 4 0 0"
