"""`checkpoints/index.json`: what each checkpoint is, what it achieved, and how to convert it; and its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from examples.recipes import RECIPES, Recipe
from normexport.io.atomic import write_text

CHECKPOINTS = Path(__file__).with_name("checkpoints")
INDEX = CHECKPOINTS / "index.json"
README = Path(__file__).with_name("README.md")
_START, _END = "<!-- table of checkpoints/index.json -->\n", "<!-- end of table -->\n"


def read() -> dict[str, dict[str, Any]]:
    """Entries by file name; none where nothing was trained yet."""
    return json.loads(INDEX.read_text()) if INDEX.exists() else {}


def write(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the index, in the order of the recipes, and its table into README.md."""
    known = [recipe.file for recipe in RECIPES.values()]
    ordered = {file: entries[file] for file in known if file in entries}
    write_text(INDEX, json.dumps(ordered, indent=2) + "\n")
    text = README.read_text()
    before, after = text.partition(_START)[0], text.partition(_END)[2]
    write_text(README, before + _START + table(ordered) + _END + after)


def entry(recipe: Recipe, correct: int, count: int, path: Path) -> dict[str, Any]:
    """What the index says of one file.

    `model`, `model_kwargs`, `dialect` and `input` are the arguments of `normexport convert`, null where it
    needs none: an exported program knows its inputs, and only a state_dict needs the code of its network.
    """
    coded = recipe.format == "training"
    return {
        "network": recipe.network,
        "kind": recipe.kind,
        "format": recipe.format,
        "model": f"examples.networks:{recipe.network}" if coded else None,
        "model_kwargs": recipe.loader_kwargs if coded else None,
        "dialect": recipe.dialect,
        "input": None if recipe.format == "program" else "1x28x28",
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "precision": "bfloat16 autocast" if recipe.autocast else "float32",
        "accuracy": correct / count,
        "correct": correct,
        "test_images": count,
        "torch": torch.__version__,
        "bytes": path.stat().st_size,
    }


def table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The index as a Markdown table."""
    lines = ["| file | format | test accuracy | seed | epochs | kB | to convert |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| `{file}` | {each['format']} | {each['accuracy']:.1%} | {each['seed']} | {each['epochs']} "
        f"| {each['bytes'] / 1000:.0f} | {_options(each)} |"
        for file, each in entries.items()
    ]
    return "\n".join(lines) + "\n"


def _options(each: Mapping[str, Any]) -> str:
    options = []
    if each["input"]:
        options.append(f"--input {each['input']}")
    if each["model"]:
        options.append(f"--model {each['model']} --model-kwargs '{json.dumps(each['model_kwargs'])}'")
    if each["dialect"]:
        options.append(f"--dialect {each['dialect']}")
    return f"`{' '.join(options)}`" if options else ""
