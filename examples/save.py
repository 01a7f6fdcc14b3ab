"""Write a trained network in one of the formats that `normexport convert` reads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from examples.recipes import Recipe
from normexport.io.atomic import replacing


def save(model: nn.Module, recipe: Recipe, accuracy: float, path: Path) -> None:
    """Write `model` (eval mode) to `path` in `recipe.format`; accuracy is a fraction, kept in training checkpoints."""
    write = {"program": _save_program, "module": _save_module, "training": _save_training}[recipe.format]
    with replacing(path) as temporary:
        write(model, recipe, accuracy, temporary)


def _save_program(model: nn.Module, recipe: Recipe, accuracy: float, path: Path) -> None:
    images = torch.zeros(2, 1, 28, 28)  # sizes 0 and 1 would be taken for constants
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    for node in program.graph.nodes:
        # Half of the file, and it names the folders of the machine that trained.
        node.meta.pop("stack_trace", None)
    with path.open("wb") as file:  # by name it must end in .pt2, which the temporary one does not
        torch.export.save(program, file)


def _save_module(model: nn.Module, recipe: Recipe, accuracy: float, path: Path) -> None:
    torch.save(model, path)


def _save_training(model: nn.Module, recipe: Recipe, accuracy: float, path: Path) -> None:
    checkpoint = {
        "epoch": recipe.epochs,
        "model": recipe.network,
        "config": recipe.stored_kwargs,
        "state_dict": nn.DataParallel(model).state_dict(),  # keys start with "module."
        "best_prec1": 100 * accuracy,
    }
    torch.save(checkpoint, path)
