"""Figures (a) and (b): training with weight decay, without it, and without it but with equation 4.

Of every seed four runs from the same first weights on the same batches:

    decay     weight decay on the convolutions, all of which are scale invariant, and on nothing else
    none      no weight decay
    eq4       no weight decay; `EffectiveLR` takes the effective steps of the run `decay`
    everywhere   weight decay on all parameters, as is usual

Kept at every 30th step: accuracy on the test images, and of each layer the median over its channels of the norm ||w||,
of the effective step size, and of the angle by which the next step turned the channel's vector: what the effective
step size is to set, measured beside it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from examples.norm_matters import images, networks, training
from examples.norm_matters.runs import Case, Result
from normexport.train import EffectiveLR, effective_step_size, read_channel_norms, record_channel_norms

SEEDS, STEPS, EVERY = 4, 600, 30
DECAY = 0.005
ARMS = ("decay", "none", "eq4", "everywhere")


def cases(seeds: int = SEEDS, steps: int = STEPS) -> list[Case]:
    """One per seed."""
    return [{"seed": seed, "steps": steps} for seed in range(seeds)]


def measure(case: Case) -> Result:
    """The four runs of a seed: arm -> what `run` kept of it."""
    recipes = {
        "decay": training.Recipe(**case, decay=DECAY),
        "none": training.Recipe(**case),
        "eq4": training.Recipe(**case),
        "everywhere": training.Recipe(**case, decay=DECAY, decay_of_others=DECAY),
    }
    with tempfile.TemporaryDirectory() as folder:
        norms = Path(folder) / "norms.bin"  # written by the first run, read by the third
        return {arm: run(recipe, arm, norms) for arm, recipe in recipes.items()}


def run(recipe: training.Recipe, arm: str, norms: Path) -> Result:
    """One run: `step`, `accuracy` (of each kept step), and `norm`, `step_size`, `turn` (kept steps, layers)."""
    torch.manual_seed(recipe.seed)
    model = networks.build(networks.VARIANTS["L2"])
    optimizer = training.prepare(model, recipe)
    recorder = record_channel_norms(model, optimizer, norms) if arm == "decay" else None
    follower = EffectiveLR(optimizer, model, read_channel_norms(norms)) if arm == "eq4" else None
    kept: Result = {"step": [], "accuracy": [], "norm": [], "step_size": [], "turn": []}
    before: list[Tensor] | None = None
    for step in training.steps(model, optimizer, images.load().training, recipe):
        if before is not None:
            kept["turn"].append(_medians(turns(before, directions(model))))
            before = None
        if step % EVERY == 0:
            kept["step"].append(step)
            kept["accuracy"].append(training.accuracy(model, images.load().test))
            kept["norm"].append(_medians([weight.flatten(1).norm(dim=1) for weight in weights_of(model)]))
            if step < recipe.steps:
                kept["step_size"].append(_medians(step_sizes(model, optimizer, follower)))
                before = directions(model)
    if recorder is not None:
        recorder.close()
    return kept


def step_sizes(model: nn.Module, optimizer: Optimizer, follower: EffectiveLR | None) -> list[Tensor]:
    """Of each layer (channels,): eta/||w||^2, with eta_hat of equation 4 for eta where that is followed."""
    sizes = effective_step_size(model, optimizer)
    ratios = follower.ratios() if follower else {}
    return [size * ratios[path].square() if follower else size for path, size in sizes.items()]


def weights_of(model: nn.Module) -> list[Tensor]:
    """The weights of the convolutions, (O, I, H, W) each."""
    return [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def directions(model: nn.Module) -> list[Tensor]:
    """Of each convolution, (channels, elements) float64: its vectors at length 1."""
    return [nn.functional.normalize(weight.flatten(1).double(), dim=1) for weight in weights_of(model)]


def turns(before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
    """The angles between directions, in radians, (channels,) of each layer."""
    # 2*asin(|u - v|/2): acos of the inner product would lose what is below 1e-8.
    return [2 * ((one - other).norm(dim=1) / 2).asin() for one, other in zip(before, after, strict=True)]


def _medians(layers: list[Tensor]) -> list[float]:
    return [float(f"{each.median().item():.4g}") for each in layers]
