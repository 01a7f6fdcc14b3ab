"""Train the example networks and write their checkpoints: `python examples/train.py [NAME ...]`.

One thread and fixed seeds, so that a machine of the same kind gives the same weights again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

if not __package__:  # run as a file: find the packages beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples import data, index, layouts
from examples.networks import build
from examples.recipes import RECIPES, Recipe
from examples.save import save
from normexport.errors import NormExportError, UsageError

BATCH = 50


def train(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
    """Adam with a one-cycle learning rate, no augmentation; images (N, 1, 28, 28), labels (N,). Ends in eval mode."""
    steps = recipe.epochs * (len(images) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    model.train()
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.autocast):
                loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def count_correct(model: nn.Module, images: data.Images) -> int:
    """How many labels the largest logit of `model` names."""
    with torch.no_grad():
        logits = model(torch.from_numpy(images.input))
    return int((logits.argmax(1) == torch.from_numpy(images.labels)).sum())


def make(recipe: Recipe, training: data.Images, test: data.Images, folder: Path) -> dict[str, object]:
    """Train, convert to the recipe's layout, test and save; returns the entry for the index."""
    torch.manual_seed(recipe.seed)
    model = build(recipe.network, recipe.model_kwargs)
    train(model, torch.from_numpy(training.input), torch.from_numpy(training.labels), recipe)
    if recipe.layout:
        stored = build(recipe.network, recipe.stored_kwargs).eval()
        layouts.fill(stored, trained=model)
        model = stored
    correct, count = count_correct(model, test), len(test.labels)
    path = folder / recipe.file
    save(model, recipe, correct / count, path)
    return index.entry(recipe, correct, count, path)


def choose(names: list[str]) -> list[Recipe]:
    """The recipes called `names`, all where there are none.

    Raises:
        UsageError: an unknown name; the message lists the known ones.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UsageError(unknown[0], "is not a recipe", f"choose among {', '.join(RECIPES)}")
    return [RECIPES[name] for name in names or RECIPES]


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes, e.g. residual_l1; all by default.")] = None,
) -> None:
    """Train on 4,000 MNIST images, test on 1,000 others, write examples/checkpoints/ and its index."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        recipes = choose(names or [])
        training, test = data.load()
    except NormExportError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    for recipe in recipes:
        start = time.perf_counter()
        made = make(recipe, training, test, index.CHECKPOINTS)
        index.write({**index.read(), recipe.file: made})
        seconds = time.perf_counter() - start
        typer.echo(f"{recipe.file:30} {made['correct']}/{made['test_images']} {made['bytes']:>7} bytes {seconds:.0f} s")


if __name__ == "__main__":
    typer.run(main)
