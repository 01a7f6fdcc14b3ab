"""The figures of docs/norm-matters.md: every script runs, and the page says what the results say."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from examples.norm_matters import (
    decay,
    images,
    kinds,
    networks,
    page,
    plots,
    precision,
    runs,
    speed,
    tables,
    training,
)
from examples.norm_matters.low_precision import FormulaNorm
from normexport import nn as nxn

pytestmark = pytest.mark.slow

FIGURES: dict[str, Any] = {"decay": decay, "kinds": kinds, "precision": precision, "speed": speed}


@pytest.mark.parametrize("name", FIGURES)
def test_every_case_of_a_figure_has_its_result(name: str) -> None:
    kept = [case for case, _ in runs.read(name)]
    assert kept == FIGURES[name].cases()


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    text = page.PAGE.read_text()
    made = tables.all_tables()
    assert set(re.findall(r"<!-- table: (\w+) -->", text)) == set(made)
    assert page.with_tables(text, made) == text


def test_the_page_shows_every_plot_and_they_are_small() -> None:
    shown = re.findall(r"\]\(norm-matters/(\w+\.png)\)", page.PAGE.read_text())
    files = {path.name: path for path in page.PLOTS.iterdir()}
    assert sorted(shown) == sorted(files)
    for path in files.values():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size < 100_000


def test_the_images_are_split_without_overlap_and_the_same_every_time() -> None:
    split = images.load()
    assert [len(part.labels) for part in split] == [1000, 1000, 3000]
    every = torch.cat([part.input for part in split]).flatten(1)
    assert len(torch.unique(every, dim=0)) == 5000
    some = torch.rand(7, 1, 28, 28)
    assert torch.equal(images.distort(some), images.distort(some))


def test_a_distorted_image_is_the_image_moved_with_noise() -> None:
    """Without the noise, no pixel is brighter than the image's brightest, and little of the ink is lost."""
    image = torch.zeros(64, 1, 28, 28)
    image[:, :, 10:18, 10:18] = 1.0
    noise = images.distort(torch.zeros_like(image))
    moved = images.distort(image) - noise
    assert moved.max() <= 1 + 1e-6
    assert moved.min() >= -1e-6
    ink = moved.sum((1, 2, 3)) / 64  # the square of the size
    assert 0.9 * 0.7**2 < ink.min() < ink.max() < 1.1 * 1.1**2
    assert abs(noise.std() - images.NOISE) < 0.01


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_the_formula_in_float32_is_the_module(kind: str) -> None:
    torch.manual_seed(0)
    formula = FormulaNorm(3, kind, 1e-5, torch.float32)
    module = nn.BatchNorm2d(3) if kind == "l2" else nxn.L1BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 6) * 3 + 1
    torch.testing.assert_close(formula(x), module(x))


def test_squares_leave_float16_where_absolute_values_do_not() -> None:
    """What figure (d) trains with: a divisor of 0 or infinity for L2, the right one for L1."""
    x = torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.batch_norm(x, None, None, training=True)
    for scale in (2.0**-14, 2.0**10):
        y = {kind: FormulaNorm(2, kind, 0.0, torch.float16)(x * scale) for kind in ("l1", "l2")}
        assert (y["l1"] - expected).abs().max() < 0.1
        assert not (y["l2"] - expected).abs().max() < 0.1


def test_longer_first_weights_change_nothing_but_epsilon() -> None:
    """`Recipe.length`: with powers of two and no epsilon every step is the same to the bit, but for the length."""
    ends = []
    for length in (1.0, 2.0**7):
        recipe = training.Recipe(seed=3, steps=5, decay=0.01, length=length)
        torch.manual_seed(recipe.seed)
        model = networks.build(networks.Variant(lambda channels: FormulaNorm(channels, "l1", 0.0, torch.float32)))
        training.train(model, images.load().training, recipe)
        ends.append([weight / length for weight in model.parameters() if weight.dim() == 4])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_turns_are_the_angles_between_directions() -> None:
    angles = np.array([0.0, 1e-7, 0.3, np.pi / 2])
    before = [torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)]
    after = [torch.tensor(np.stack([np.cos(angles), np.sin(angles)], 1))]
    np.testing.assert_allclose(decay.turns(before, after)[0].numpy(), angles, atol=1e-15, rtol=1e-9)


def test_the_figures_of_decay_run() -> None:
    (case,) = decay.cases(seeds=1, steps=3)
    result = decay.measure(case)
    assert set(result) == set(decay.ARMS)
    for kept in result.values():
        assert kept["step"] == [0]
        assert all(np.isfinite(kept[name]).all() for name in ("norm", "step_size", "turn"))
    # Before the first step nothing differs.
    assert result["decay"]["step_size"] == result["eq4"]["step_size"]


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_every_kind_trains(variant: str) -> None:
    result = kinds.measure({"variant": variant, "rate": 0.01, "seed": 0, "steps": 2})
    assert 0 <= result["test"] <= 1


@pytest.mark.parametrize(("norm", "type_name", "eps"), precision.SETTINGS)
def test_every_precision_trains(norm: str, type_name: str, eps: float) -> None:
    case = {"norm": norm, "type": type_name, "eps": eps, "length": 0, "seed": 0, "steps": 2}
    assert precision.measure(case)["finite"]


def test_the_figure_of_speed_runs() -> None:
    (case,) = speed.cases(threads=(1,), rounds=1, compiled=False)
    result = speed.measure(case)
    assert result["ratios"][speed.BASE] == [1, 1, 1]


def _square(case: runs.Case) -> runs.Result:
    return {"square": case["x"] ** 2}


def test_what_has_run_is_not_run_again(tmp_path: Path) -> None:
    told: list[str] = []
    cases = [{"x": 1}, {"x": 2}]
    runs.run_cases("some", cases[:1], _square, folder=tmp_path, tell=told.append)
    kept = json.loads((tmp_path / "some.json").read_text())
    kept["runs"][0]["result"] = {"square": "kept"}
    (tmp_path / "some.json").write_text(json.dumps(kept))
    done = runs.run_cases("some", cases, _square, folder=tmp_path, tell=told.append)
    assert done == [({"x": 1}, {"square": "kept"}), ({"x": 2}, {"square": 4})] == runs.read("some", tmp_path)
    assert told == ["some 1/1: x=1", "some 1/1: x=2"]


def test_plots_are_drawn(tmp_path: Path) -> None:
    plots.draw_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in page.PLOTS.iterdir())


def test_equation_4_closes_the_gap_that_weight_decay_opens() -> None:
    """The claim of the page, on the results that it is written of."""
    closed = [tables.gap_closed(result, "eq4") for _, result in runs.read("decay")]
    assert len(closed) >= 3
    assert statistics.median(closed) >= 0.8
