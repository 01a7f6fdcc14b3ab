"""Figure (e): how long a training step of the network takes with each norm, over the step with `nn.BatchNorm2d`.

All candidates take a step in turn, round after round in one process; each round gives a ratio to `nn.BatchNorm2d` of
that round, so that what else the machine does falls on both. With one thread processor time is measured, with several
wall time. What the norm alone costs is measured by `benchmarks/training_speed.py`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from examples.norm_matters import images, networks, training
from examples.norm_matters.low_precision import FormulaNorm
from examples.norm_matters.runs import Case, Result

ROUNDS, THREADS = 20, (1, 2)
BASE = "nn.BatchNorm2d"
COMPILED = " compiled"
#: Those that torch.compile compiles too: a minute each.
COMPARED = (BASE, "L1, module", "Top-10, module", "L1, formula")


def cases(threads: tuple[int, ...] = THREADS, rounds: int = ROUNDS, compiled: bool = True) -> list[Case]:
    """One per number of threads."""
    return [{"threads": each, "rounds": rounds, "compiled": compiled} for each in threads]


def variants() -> dict[str, networks.Variant]:
    """What is compared."""
    modules = {f"{name}, module": each for name, each in networks.VARIANTS.items() if each.norm and not each.weights}
    del modules["L2, module"]
    formulas = {
        f"{kind.upper()}, formula": networks.Variant(
            functools.partial(FormulaNorm, kind=kind, eps=1e-5, dtype=torch.float32)
        )
        for kind in ("l2", "l1")
    }
    return {BASE: networks.VARIANTS["L2"], **modules, **formulas}


def measure(case: Case) -> Result:
    """name -> median, lowest and highest decile of the rounds' ratios; `milliseconds` of the base's median step."""
    torch.set_num_threads(case["threads"])
    clock = time.process_time if case["threads"] == 1 else time.perf_counter
    steps = {name: _step_of(networks.build(each)) for name, each in variants().items()}
    if case["compiled"]:
        for name in COMPARED:
            steps[name + COMPILED] = _step_of(networks.build(variants()[name]), compiled=True)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(case["rounds"] + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if index >= 2:  # the first steps compile, and find memory
                taken[name].append(clock() - start)
    base = np.array(taken[BASE])
    ratios = {name: np.quantile(np.array(each) / base, [0.5, 0.1, 0.9]) for name, each in taken.items()}
    return {
        "milliseconds": round(1e3 * float(np.median(base)), 2),
        "ratios": {name: [round(float(each), 3) for each in three] for name, three in ratios.items()},
    }


def _step_of(model: nn.Module, compiled: bool = False) -> Callable[[], None]:
    recipe = training.Recipe(seed=0)
    optimizer = training.prepare(model, recipe)
    chosen = images.load().training
    batch, labels = chosen.input[: training.BATCH], chosen.labels[: training.BATCH]
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(forward(batch), labels).backward()
        optimizer.step()

    return step
