"""What is timed: one norm of one dtype on one shape, with its tensors in rotation and its result in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from norm_bench.layouts import packed, unpacked
from normexport import norms
from normexport.norms import Scope
from normexport.plugins import cuda, kernels

SHAPES = ((8, 64, 56, 56), (1, 256, 56, 56), (32, 256, 14, 14))
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
EPSILON = 1e-5
#: Tensors rotate through at least this much memory, several times a last-level cache, and through 16 of them.
ROTATION_BYTES = 192 << 20


@dataclass(frozen=True)
class Case:
    """`kind` on x of `shape` and `dtype`, statistics over the batch or, where `instance`, per sample.

    In another `layout` than LINEAR, xs and ys are as they lie in memory.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    instance: bool = False
    device: str = "cpu"
    seed: int = 0
    copies: int = field(default=0)
    layout: str = "LINEAR"

    @property
    def op(self) -> str:
        return ("Q" if self.dtype == "int8" else "") + norms.KINDS[self.kind].op(Scope.of(self.instance))

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of x alone."""
        return self.elements * DTYPES[self.dtype].itemsize

    @property
    def rotation(self) -> int:
        """How many pairs of x and y take turns."""
        return self.copies or max(16, -(-ROTATION_BYTES // (2 * self.bytes)))

    @cached_property
    def xs(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randn(self.shape, generator=generator) * 2 + 0.5
        if self.dtype == "int8":
            first = (first * 20).round().clamp(-128, 127)
        first = first.to(DTYPES[self.dtype]).to(self.device)
        if self.layout != "LINEAR":
            first = packed(first, self.layout)
        return [first.clone() for _ in range(self.rotation)]

    @cached_property
    def ys(self) -> list[Tensor]:
        return [torch.empty_like(x) for x in self.xs]

    @cached_property
    def parameters(self) -> tuple[Tensor, Tensor]:
        """scale and bias (C,), float32; of int8 in units of the quantised output."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        unit = 40.0 if self.dtype == "int8" else 1.0
        scale = torch.rand(self.shape[1], generator=generator) + 0.5
        bias = torch.randn(self.shape[1], generator=generator)
        return (scale * unit).to(self.device), (bias * unit / 4).to(self.device)

    def check(self, name: str, y: Tensor) -> None:
        """Stop unless y is the norm of x, within roundings of float64; int8 of our own operators to the byte."""
        got = self._logical(y).detach().cpu().double().numpy()
        error = np.abs(got - self._expected).max() / max(1.0, np.abs(self._expected).max())
        limit = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "int8": 1.01 / 127}[self.dtype]
        if self.dtype == "int8" and name in ("native", "in ORT", "body"):
            limit = 0.0
        if not error <= limit:
            raise SystemExit(f"{name} on {self}: error {error:.2e} of the largest output, more than {limit:.0e}")

    @cached_property
    def _expected(self) -> np.ndarray:
        x = self._logical(self.xs[0]).cpu()
        scale, bias = (each.cpu().numpy() for each in self.parameters)
        kind = norms.KINDS[self.kind]
        if self.dtype == "int8":
            q = norms.quantized_reference(kind, x.numpy(), scale, bias, epsilon=EPSILON, scope=Scope.of(self.instance))
            return q.astype(np.float64)
        values = x.double().numpy()
        return norms.reference(kind, values, scale, bias, epsilon=EPSILON, scope=Scope.of(self.instance))

    def _logical(self, x: Tensor) -> Tensor:
        return x if self.layout == "LINEAR" else unpacked(x, self.shape)


def native_norm(case: Case) -> kernels.NxNorm:
    """The case as the C interface takes it."""
    batch, channels, *space = case.shape
    return kernels.NxNorm(
        kind=kernels.number_of(case.kind),
        type=kernels.TYPES[case.dtype],
        layout=cuda.LAYOUTS[case.layout],
        instance=case.instance,
        batch=batch,
        channels=channels,
        space=math.prod(space),
        k=norms.K_DEFAULT,
        chunks=norms.CHUNKS_DEFAULT,
        epsilon=EPSILON,
    )


def cases(
    kinds: Sequence[str],
    dtypes: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    device: str,
    instance: bool,
    layouts: Sequence[str] = ("LINEAR",),
) -> list[Case]:
    every = product(shapes, layouts, dtypes, kinds)
    return [Case(kind, dtype, shape, instance, device, layout=layout) for shape, layout, dtype, kind in every]
