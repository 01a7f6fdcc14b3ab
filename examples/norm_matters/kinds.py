"""Figure (c): what else can stand where batch norm stands.

Every variant of `networks.VARIANTS` is trained by the same recipe, with weight decay on its convolutions. Table and
plot have the step size at which the median accuracy on the validation images is best.
"""

from __future__ import annotations

import torch

from examples.norm_matters import images, networks, training
from examples.norm_matters.runs import Case, Result

SEEDS, STEPS = 3, 300
#: Networks without a norm behind their convolutions learn nothing at 0.2, and so have a choice of smaller ones.
RATES, RATES_WITHOUT_NORM = (0.2,), (0.05, 0.0125)
DECAY = 0.005


def cases(seeds: int = SEEDS, steps: int = STEPS) -> list[Case]:
    """One per seed, step size and variant."""
    return [
        {"variant": variant, "rate": rate, "seed": seed, "steps": steps}
        for seed in range(seeds)
        for variant in networks.VARIANTS
        for rate in rates_of(variant)
    ]


def rates_of(variant: str) -> tuple[float, ...]:
    """The step sizes that a variant is trained with."""
    return RATES if networks.VARIANTS[variant].norm else RATES_WITHOUT_NORM


def measure(case: Case) -> Result:
    """Train one network: its accuracy on validation and test images at the end."""
    recipe = training.Recipe(case["seed"], case["steps"], case["rate"], DECAY)
    torch.manual_seed(recipe.seed)
    model = networks.build(networks.VARIANTS[case["variant"]])
    split = images.load()
    training.train(model, split.training, recipe)
    return {
        "validation": round(training.accuracy(model, split.validation), 4),
        "test": round(training.accuracy(model, split.test), 4),
    }
