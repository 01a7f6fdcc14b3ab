"""The training loop of all figures: SGD with momentum, the step size in three stages, no augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from examples.norm_matters.images import Images

BATCH, MOMENTUM = 50, 0.9
#: After these shares of the steps the step size is a tenth of what it was.
STAGES = (0.6, 0.85)
#: GradScaler doubles its scale after so many steps without an overflow.
GROWTH = 50


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        seed: of the first weights and of the order of the images.
        steps: of the optimizer, on 50 images each.
        rate: the step size eta at first.
        decay: weight decay lambda of the convolutions.
        decay_of_others: of all other parameters.
        length: the first weights of the convolutions are multiplied by it, and their step size and decay set so that
            behind a norm, but for its epsilon and rounding, the network computes and learns the same.
        loss_scale: where GradScaler starts, for norms that float16 goes through on its way back; 1 does without.
    """

    seed: int
    steps: int = 600
    rate: float = 0.2
    decay: float = 0.0
    decay_of_others: float = 0.0
    length: float = 1.0
    loss_scale: float = 1.0


def prepare(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Lengthen the convolutions' weights as the recipe says; returns the optimizer of a fresh model.

    With w = a*v the gradient is g(v)/a, so a step eta*a^2 of w with decay lambda/a^2 is a times the step of v.
    """
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    others = [parameter for parameter in model.parameters() if parameter.dim() != 4]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(recipe.length)
    square = recipe.length**2
    groups = [
        {"params": weights, "lr": recipe.rate * square, "weight_decay": recipe.decay / square},
        {"params": others, "lr": recipe.rate, "weight_decay": recipe.decay_of_others},
    ]
    return SGD(groups, recipe.rate, momentum=MOMENTUM)


def steps(model: nn.Module, optimizer: Optimizer, images: Images, recipe: Recipe) -> Iterator[int]:
    """Train; yields how many steps were taken, 0 at first, so that the caller can look at the network between them."""
    order = torch.Generator().manual_seed(recipe.seed)
    rates = [group["lr"] for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler("cpu", recipe.loss_scale, growth_interval=GROWTH, enabled=recipe.loss_scale != 1)
    chosen = iter(torch.empty(0))
    for done in range(recipe.steps):
        stage = sum(done >= round(share * recipe.steps) for share in STAGES)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.1**stage
        yield done
        batch = next(chosen, None)
        if batch is None:
            chosen = iter(torch.randperm(len(images.labels), generator=order).split(BATCH))
            batch = next(chosen)
        model.train()
        loss = nn.functional.cross_entropy(model(images.input[batch]), images.labels[batch])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    yield recipe.steps


def train(model: nn.Module, images: Images, recipe: Recipe) -> None:
    """Train to the end."""
    for _ in steps(model, prepare(model, recipe), images, recipe):
        pass


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """The share of images whose label the largest logit names, in evaluation; of logits that are not finite, none."""
    model.eval()
    correct = 0
    for input, labels in zip(images.input.split(500), images.labels.split(500), strict=True):
        logits = model(input)
        correct += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
    return correct / len(images.labels)
