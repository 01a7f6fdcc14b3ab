"""Figure (d): norms in float16 and bfloat16, of activations that are short, ordinary or long.

What stands before a norm may have any length: behind the norm nothing changes. So the convolutions' first weights are
multiplied by a power of two, step size and decay set accordingly (`Recipe.length`), and the network would compute and
learn the same, were it not for rounding, range and epsilon.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from examples.norm_matters import images, networks, training
from examples.norm_matters.low_precision import FormulaNorm, GivenNorm
from examples.norm_matters.runs import Case, Result
from normexport import nn as nxn

SEEDS, STEPS = 3, 80
RATE, LOSS_SCALE = 0.1, 1024.0
#: The convolutions' first weights are multiplied by 2 to this power.
LENGTHS = (-10, 0, 10)
#: norm, type, epsilon
SETTINGS = (
    ("L2, formula", "float16", 1e-5),
    ("L1, formula", "float16", 1e-5),
    ("L2, formula", "float16", 1e-12),
    ("L1, formula", "float16", 1e-12),
    ("nn.BatchNorm2d", "float16", 1e-12),
    ("L1BatchNorm2d", "float16", 1e-12),
    ("L2, formula", "bfloat16", 1e-12),
    ("L1, formula", "bfloat16", 1e-12),
)


def _make(norm: str, eps: float, dtype: torch.dtype, channels: int) -> nn.Module:
    if norm == "nn.BatchNorm2d":
        return GivenNorm(nn.BatchNorm2d(channels, eps, track_running_stats=False), dtype)
    if norm == "L1BatchNorm2d":
        return GivenNorm(nxn.L1BatchNorm2d(channels, eps, track_running_stats=False), dtype)
    return FormulaNorm(channels, norm[:2].lower(), eps, dtype)


def norm_maker(norm: str, type_name: str, eps: float) -> Callable[[int], nn.Module]:
    """The norm of a setting, by its channels."""
    return functools.partial(_make, norm, eps, getattr(torch, type_name))


def cases(seeds: int = SEEDS, steps: int = STEPS) -> list[Case]:
    """One per seed, setting and length."""
    return [
        {"norm": norm, "type": type_name, "eps": eps, "length": length, "seed": seed, "steps": steps}
        for seed in range(seeds)
        for norm, type_name, eps in SETTINGS
        for length in LENGTHS
    ]


def measure(case: Case) -> Result:
    """Train one network: its accuracy on the test images at the end, and whether its weights are finite."""
    length = 2.0 ** case["length"]
    recipe = training.Recipe(case["seed"], case["steps"], RATE, length=length, loss_scale=LOSS_SCALE)
    torch.manual_seed(recipe.seed)
    model = networks.build(networks.Variant(norm_maker(case["norm"], case["type"], case["eps"])))
    split = images.load()
    training.train(model, split.training, recipe)
    return {
        "test": round(training.accuracy(model, split.test), 4),
        "finite": all(bool(weight.isfinite().all()) for weight in model.parameters()),
    }
