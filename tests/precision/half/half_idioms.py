"""What people write in a forward that PyTorch does not run in a half type on a CPU, or runs to other numbers there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normexport import onnx_export
from normexport.folding import fold
from normexport.onnx_export import InputSpec

WIDTH, LENGTH, HEADS = 16, 6, 2
SMALLEST = float(torch.finfo(torch.float32).min)


class Attention(nn.Module):
    """Causal self-attention, heads of eight numbers; `mask` says how the future is left out."""

    causal: Tensor

    def __init__(self, mask: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv, self.out, self._mask = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), mask
        self.register_buffer("causal", torch.ones(LENGTH, LENGTH).tril().bool())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = self._mask(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]), self.causal)
        return self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))


class AddedMask(nn.Module):
    """Attention with a mask kept as a buffer of numbers and added."""

    future: Tensor

    def __init__(self, number: float) -> None:
        super().__init__()
        self.inner = Attention(lambda scores, _: scores + self.future)
        self.register_buffer("future", torch.full((LENGTH, LENGTH), number).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class PaddedAttention(nn.Module):
    """Attention under a mask that is an input: (1 - mask) * number, added; rows may be masked whole."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.q, self.v, self.number = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), number

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.q(x) @ x.transpose(1, 2) / 4 + (1.0 - mask.float())[:, None] * self.number
        return scores.softmax(2) @ self.v(x)


class Function(nn.Module):
    """Two layers around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor], middle: int = WIDTH) -> None:
        super().__init__()
        self.first, self.last, self._function = nn.Linear(WIDTH, WIDTH), nn.Linear(middle, WIDTH), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self._function(self.first(x)))


class TimeEmbedding(nn.Module):
    """A diffusion model's: sines of a time step, two layers, added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.out = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rates = torch.exp(-math.log(10000) * torch.arange(WIDTH // 2, dtype=torch.float32) / (WIDTH // 2))
        angles = t.float()[:, None] * rates[None]
        return self.out(x + self.mlp(torch.cat([angles.cos(), angles.sin()], 1)))


class Rotary(nn.Module):
    """Positions turned into angles, as in Llama: a product of float32 matrices that is not to be rounded."""

    rates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("rates", 1.0 / (10000 ** (torch.arange(0, WIDTH, 2).float() / WIDTH)))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        angles = (self.rates[None, :, None].float() @ position[:, None, :].float()).transpose(1, 2)
        angles = torch.cat([angles, angles], 2)

        def turned(v: Tensor) -> Tensor:
            half = torch.cat([-v[..., WIDTH // 2 :], v[..., : WIDTH // 2]], -1)
            return v * angles.cos() + half * angles.sin()

        return turned(self.q(x)) @ turned(self.k(x)).transpose(1, 2)


class OneHot(nn.Module):
    """Classes made vectors, in the default type."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.cls = nn.Linear(10, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        return self.cls(x) + self.inner(F.one_hot(kind, 10).float())


class Columns(nn.Module):
    """A table of whole numbers with means and spreads (years, cents), normed and then run through two layers."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 4))
        self.register_buffer("mean", torch.linspace(0, 30000, WIDTH))
        self.register_buffer("spread", torch.linspace(3, 9000, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x.float() - self.mean) / self.spread)


class GroupNormInFloat32(nn.GroupNorm):
    """What diffusion models call GroupNorm32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).type(x.dtype)


class Image(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers, nn.Conv2d(8, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft(x).abs()


@dataclass(frozen=True)
class Idiom:
    """A network, what it reads, and the ends of its integer inputs in real life."""

    make: Callable[[], nn.Module]
    inputs: tuple[InputSpec, ...]
    end: int = 2


_X = InputSpec("x", (LENGTH, WIDTH))
_ROW = InputSpec("x", (WIDTH,))
_IMAGE = InputSpec("x", (3, 8, 8))

IDIOMS = {
    "masked_fill(-inf)": Idiom(lambda: Attention(lambda s, m: s.masked_fill(~m, -math.inf)), (_X,)),
    "masked_fill(-1e9)": Idiom(lambda: Attention(lambda s, m: s.masked_fill(~m, -1e9)), (_X,)),
    "masked_fill(finfo.min)": Idiom(lambda: Attention(lambda s, m: s.masked_fill(~m, SMALLEST)), (_X,)),
    "where(mask, scores, -1e9)": Idiom(lambda: Attention(lambda s, m: torch.where(m, s, torch.tensor(-1e9))), (_X,)),
    "added causal buffer of -1e9": Idiom(lambda: AddedMask(-1e9), (_X,)),
    "added causal buffer of finfo.min": Idiom(lambda: AddedMask(SMALLEST), (_X,)),
    "added causal buffer of -inf": Idiom(lambda: AddedMask(-math.inf), (_X,)),
    "(1 - mask) * -1e4": Idiom(lambda: PaddedAttention(-1e4), (_X, InputSpec("mask", (LENGTH,), "int64"))),
    "(1 - mask) * finfo.min": Idiom(lambda: PaddedAttention(SMALLEST), (_X, InputSpec("mask", (LENGTH,), "int64"))),
    ".float() before Linear": Idiom(lambda: Function(lambda x: x.float().tanh()), (_X,)),
    "softmax in float32": Idiom(lambda: Function(lambda x: F.softmax(x, -1, dtype=torch.float32).type_as(x)), (_X,)),
    "norm in float32": Idiom(lambda: Function(lambda x: F.layer_norm(x.float(), (WIDTH,)).to(x.dtype)), (_X,)),
    "group norm in float32": Idiom(lambda: Image(GroupNormInFloat32(2, 8), nn.SiLU()), (_IMAGE,)),
    "one_hot": Idiom(OneHot, (_ROW, InputSpec("kind", (), "int64")), 10),
    "time steps": Idiom(TimeEmbedding, (_ROW, InputSpec("t", (), "int64", bounds=(0, 999))), 1000),
    "rotary positions": Idiom(Rotary, (_X, InputSpec("position", (LENGTH,), "int64", bounds=(0, 4095))), 4096),
    "cumsum": Idiom(lambda: Function(lambda x: x.cumsum(1)), (_X,)),
    "einsum": Idiom(lambda: Function(lambda x: torch.einsum("bld,bmd->blm", x, x), LENGTH), (_X,)),
    "fft": Idiom(lambda: Function(_spectrum, WIDTH // 2 + 1), (_X,)),
    "whole numbers": Idiom(Columns, (InputSpec("x", (WIDTH,), "int64", bounds=(0, 29999)),), 30000),
    "float64 inside": Idiom(lambda: Function(lambda x: x.double().exp().log1p().float()), (_X,)),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(3)
    return IDIOMS[name].make().eval()


def samples(name: str, count: int = 8) -> dict[str, np.ndarray]:
    """Inputs as they are in real life; the first row of a mask masks all, the last nothing."""
    rng = np.random.default_rng(0)
    idiom = IDIOMS[name]
    found = {}
    for spec in idiom.inputs:
        shape = spec.sized(count)
        whole = rng.integers(0, idiom.end, shape)
        found[spec.name] = whole if spec.dtype == "int64" else rng.standard_normal(shape).astype(np.float32)
        if spec.name == "mask":
            found["mask"][0], found["mask"][-1] = 0, 1
    return found


@cache
def exported(name: str) -> tuple[ir.Model, tuple[onnx_export.Layer, ...]]:
    """(folded float32 ONNX model, layers) of an idiom."""
    made = onnx_export.export(network(name), IDIOMS[name].inputs)
    return fold(made.model).model, made.layers
