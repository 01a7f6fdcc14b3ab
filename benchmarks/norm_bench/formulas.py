"""The formula in plain PyTorch: what a user without native kernels runs, eagerly or compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from norm_bench.cases import EPSILON, Case
from normexport import norms

Formula = Callable[[Tensor], Tensor]


def formula(case: Case) -> Formula:
    """x -> y of x's dtype, statistics and arithmetic in float32; of int8 rounded and saturated."""
    kind, instance, scale, bias = norms.KINDS[case.kind], case.instance, *case.parameters
    quantised = case.dtype == "int8"

    def on_channels(values: Tensor, x: Tensor) -> Tensor:
        return values.reshape(*(values.shape if values.dim() == 2 else (1, -1)), *[1] * (x.dim() - 2))

    def norm(x: Tensor) -> Tensor:
        wide = x.float()
        rows = wide.flatten(2) if instance else wide.transpose(0, 1).flatten(1)
        mean = rows.mean(-1)
        d = (rows - mean.unsqueeze(-1)).reshape(-1, rows.shape[-1])
        stat = kind.torch_statistic(d, k=norms.K_DEFAULT, chunks=norms.CHUNKS_DEFAULT, correction=0.0)
        stat = stat.reshape(mean.shape)
        a = scale / (stat + EPSILON)
        y = (wide - on_channels(mean, x)) * on_channels(a, x) + on_channels(bias, x)
        return y.round().clamp(-128, 127).to(x.dtype) if quantised else y.to(x.dtype)

    return norm


def compiled(case: Case) -> Formula:
    """The same through torch.compile, for this one shape."""
    torch._dynamo.reset()
    fast: Formula = torch.compile(formula(case), dynamic=False)
    return fast


def batch_norm(case: Case) -> Formula:
    """torch's own batch norm (or instance norm) with the statistics of x: the L2 norm, hand-tuned."""
    scale, bias = case.parameters
    if case.instance:
        return lambda x: torch.nn.functional.instance_norm(x, weight=scale.to(x.dtype), bias=bias.to(x.dtype))
    return lambda x: torch.nn.functional.batch_norm(x, None, None, scale, bias, training=True)
