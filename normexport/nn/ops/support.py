"""What the operators share: working precision, broadcasting over channels, checks, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from normexport.errors import UsageError


def work_dtype(x: Tensor) -> torch.dtype:
    """The type arithmetic on x is done in: float64 for float64, float32 for every other floating type."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def is_recomputed() -> bool:
    """Whether this forward runs within a backward: a second time, by activation checkpointing."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def on_axis_1(values: Tensor, x: Tensor) -> Tensor:
    """values (C,) or (N, C), shaped to broadcast against x (N, C, *space)."""
    return values.reshape(*(values.shape if values.dim() == 2 else (1, -1)), *[1] * (x.dim() - 2))


def check_channels(op: str, x: Tensor, **vectors: Tensor) -> None:
    """Refuse an x that is not floating (N, C, *space), and vectors that are not (C,).

    Raises:
        UsageError: with the operator, what was given and what it takes.
    """
    if not x.is_floating_point():
        raise UsageError(op, f"x is {x.dtype}", "pass a floating-point tensor")
    if x.dim() < 2:
        raise UsageError(op, f"x has shape {tuple(x.shape)} and so no channel axis", "pass (N, C, *space)")
    for name, vector in vectors.items():
        if vector.dim() != 1 or vector.shape[0] != x.shape[1]:
            raise UsageError(
                op,
                f"{name} has shape {tuple(vector.shape)} where x has {x.shape[1]} channels on axis 1",
                f"pass {name} of shape ({x.shape[1]},)",
            )


def vjp(formula: Callable[..., Any], tensors: Sequence[Tensor], cotangents: Any) -> tuple[Tensor, ...]:
    """Gradients of `formula(*tensors)` against `cotangents`, one per tensor; differentiable again."""
    outcome: Any = torch.func.vjp(formula, *tensors)
    grads: tuple[Tensor, ...] = outcome[1](cotangents)
    return grads


def pullback(
    formula: Callable[..., Any], tensors: Sequence[Tensor], needed: Sequence[bool], cotangents: Any
) -> list[Tensor | None]:
    """`vjp` for the tensors that need it, None for the others."""
    wanted = [i for i in range(len(tensors)) if needed[i]]

    def of_wanted(*values: Tensor) -> Any:
        filled = list(tensors)
        for i, value in zip(wanted, values, strict=True):
            filled[i] = value
        return formula(*filled)

    grads = dict(zip(wanted, vjp(of_wanted, [tensors[i] for i in wanted], cotangents), strict=True))
    return [grads.get(i) for i in range(len(tensors))]
