"""Weight norm as files keep it, w = rho * v / ||v||_p and relatives: one row per layout, resolved in float64."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from normexport.checkpoint.records import WeightNormRecord
from normexport.checkpoint.state import State
from normexport.nn.ops import slice_norms


@dataclass(frozen=True)
class Layout:
    """How one project stores a weight called `name`.

    Attributes:
        name: shown to the user.
        v: key of the direction v (O, I, ...), with `{name}`.
        g: key of the length per slice, (O, 1, ...), or None.
        rho: key of the norm fixed for the layer, () or (1,), or None.
        meta: path of the module whose metadata holds axis and p, or None.
    """

    name: str
    v: str
    g: str | None = None
    rho: str | None = None
    meta: str | None = None

    def pattern(self) -> re.Pattern[str]:
        """Matches a full key of v; groups `at` (path with its dot, or empty) and `name`."""
        return re.compile(r"(?P<at>(?:.*\.)?)" + re.escape(self.v).replace(r"\{name\}", r"(?P<name>[^.]+)"))


#: The more specific first: norm_matters' keys contain those of torch's weight_norm.
LAYOUTS = (
    Layout("norm-matters-bwn", "{name}_v", g="{name}_g", rho="{name}_g_prenorm"),
    Layout("norm-matters-bwn-alt", "{name}_v", rho="{name}_v_prenorm"),
    Layout("convnet-bwn", "{name}_v", rho="{name}_init_norm"),
    Layout("quantized-bwn", "{name}_v", rho="{name}_prenorm"),
    Layout("torch-weight-norm", "{name}_v", g="{name}_g"),
    Layout(
        "torch-parametrized-weight-norm",
        "parametrizations.{name}.original1",
        g="parametrizations.{name}.original0",
    ),
    Layout(
        "normexport-bwn",
        "parametrizations.{name}.original",
        rho="parametrizations.{name}.0.rho",
        meta="parametrizations.{name}.0",
    ),
)


@dataclass(frozen=True)
class StoredWeight:
    """A weight found under a layout. `axis` -1 is one norm over the whole tensor."""

    layout: Layout
    at: str
    name: str
    v: Tensor
    g: Tensor | None
    rho: Tensor | None
    axis: int = 0
    p: float = 2.0

    @property
    def key(self) -> str:
        """Full key of the plain weight."""
        return self.at + self.name

    def stored_keys(self) -> tuple[str, ...]:
        """Full keys it is stored under."""
        return tuple(_keys(self.layout, self.at, self.name).values())

    def record(self) -> WeightNormRecord:
        return WeightNormRecord(self.key, self.layout.name, self.axis, float(self.p))

    def weight(self) -> Tensor:
        """The weight of v's shape, float64.

        Only g: `g * v/||v||` (torch). Only rho: `rho * v/||v||_p`. Both: `(rho/||g||_2) * g * v/||v||_p`, which
        bounds the norm of the whole layer while g still shares it out (norm_matters models/bwn.py).
        """
        v = self.v.detach().to(torch.float64)
        unit = v / slice_norms(v, self.axis, self.p)
        length = torch.ones((), dtype=torch.float64)
        if self.rho is not None:
            rho = self.rho.detach().to(torch.float64)
            length = rho.reshape(()) if rho.numel() == 1 else rho
        if self.g is not None:
            g = self.g.detach().to(torch.float64)
            length = length * (g if self.rho is None else g / torch.linalg.vector_norm(g))
        return length * unit


def stored_weights(state: State) -> Iterator[StoredWeight]:
    """Every weight of `state` that is stored under weight norm, once each."""
    seen: set[str] = set()
    for layout in LAYOUTS:
        pattern = layout.pattern()
        for key in state.tensors:
            match = pattern.fullmatch(key)
            if match is None or key in seen:
                continue
            found = _find_stored(state, layout, match["at"], match["name"])
            if found is not None:
                seen.add(key)
                yield found


def _find_stored(state: State, layout: Layout, at: str, name: str) -> StoredWeight | None:
    keys = _keys(layout, at, name)
    if any(key not in state.tensors for key in keys.values()):
        return None
    parts = {role: state.tensors[key] for role, key in keys.items()}
    v, g, rho = parts["v"], parts.get("g"), parts.get("rho")
    if v.dim() < 1 or (g is not None and g.dim() not in (0, v.dim())):
        return None
    if any(part.is_complex() or not _spreads(part, v) for part in parts.values()):
        return None
    axis, p = (0 if g is None else _axis_of(g, v)), 2.0
    if layout.meta is not None:
        metadata = state.metadata.get(at + layout.meta.format(name=name), {})
        axis, p = metadata.get("axis", axis), metadata.get("p", p)
    return StoredWeight(layout, at, name, v, g, rho, axis, p)


def _spreads(part: Tensor, v: Tensor) -> bool:
    """Whether it has one number, or one per slice of v."""
    sizes = zip(reversed(part.shape), reversed(v.shape), strict=False)
    return part.numel() == 1 or (part.dim() <= v.dim() and all(size in (1, whole) for size, whole in sizes))


def _keys(layout: Layout, at: str, name: str) -> Mapping[str, str]:
    templates = {"v": layout.v, "g": layout.g, "rho": layout.rho}
    return {role: at + text.format(name=name) for role, text in templates.items() if text is not None}


def _axis_of(g: Tensor, v: Tensor) -> int:
    """The axis along which g varies; the norm over a size-1 axis is the norm over the whole tensor."""
    varying = [axis for axis in range(g.dim()) if g.shape[axis] > 1]
    if varying:
        return varying[0]
    return 0 if g.dim() and v.shape[0] == 1 else -1
