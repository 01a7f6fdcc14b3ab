"""Where parts are computed: the words that say it, and what happens without Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from normexport.errors import ExitCode, MissingComponent, UsageError
from normexport.workers import LOCAL, Where, run_in_order, run_parts
from normexport.workers.ray_tasks import _at_a_time, _worth_a_task

ROOT = Path(__file__).parents[2]


def open_squares(job: int) -> Callable[[int], int]:
    return lambda part: job + part * part


@pytest.mark.parametrize("text", ["local", "ray", "ray:10.0.0.1:6379", "ray:auto"])
def test_words_and_values_say_the_same(text: str) -> None:
    assert Where.of(text).words == text


@pytest.mark.parametrize("text", ["", "Ray", "ray:", "local:", "local:1", "slurm", "ray "])
def test_another_word_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UsageError, match="is no place to compute; give local, ray"):
        Where.of(text)


def test_numbers_of_workers_that_mean_nothing_are_refused() -> None:
    for text, workers in (("ray", 0), ("local", 2)):
        with pytest.raises(UsageError, match="--workers"):
            Where.of(text, workers)


def test_parts_are_computed_here_in_their_order_as_they_are_asked_for() -> None:
    taken: list[int] = []

    def parts() -> list[int]:
        taken.append(1)
        return [3, 1, 2]

    assert list(run_parts(LOCAL, open_squares, 10, parts())) == [(0, 19), (1, 11), (2, 14)]
    assert list(run_in_order(LOCAL, open_squares, 0, parts())) == [9, 1, 4]


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingComponent, match=r"ray: is not installed; run: pip install 'normexport\[ray\]'"):
        next(iter(run_parts(Where.of("ray"), open_squares, 0, [1])))
    model, data = ROOT / "examples/checkpoints/rows_l1.pt2", ROOT / "examples/digits.npz"
    words = ["calibrate", "collect", str(model), "--data", str(data), "--on", "ray", "-o", str(tmp_path / "s.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.MISSING
    assert not (tmp_path / "s.json").exists()
    assert result.stderr.splitlines() == ["error: ray: is not installed; run: pip install 'normexport[ray]'"]


def test_nothing_imports_ray_before_it_is_asked_for() -> None:
    code = (
        "import sys, normexport, normexport_cli.app; from normexport.verbs import convert, evaluate, calibrate;"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'ray']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"})


class Cluster:
    """As much of Ray as says how large a cluster is."""

    def __init__(self, cores: int) -> None:
        self.cores = cores

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}


@pytest.mark.parametrize(
    ("cores", "each", "workers", "under_way"),
    [
        (2, 1, None, 4),
        (2, 1, 2, 4),
        (2, 1, 4, 4),
        (2, 1, 1, 1),
        (8, 1, 3, 3),
        (8, 4, None, 4),
        (8, 4, 1, 1),
        (1, 4, 1, 2),
    ],
)
def test_a_part_waits_for_each_that_runs_and_no_more_run_than_are_asked_for(
    cores: int, each: int, workers: int | None, under_way: int
) -> None:
    assert _at_a_time(Cluster(cores), Where(True, workers=workers), each) == under_way


@pytest.mark.parametrize(("seconds", "several"), [(0.0, 16), (0.001, 16), (0.05, 5), (0.1, 2), (0.2, 1), (60.0, 1)])
def test_parts_that_are_quick_share_a_task(seconds: float, several: int) -> None:
    assert _worth_a_task(seconds) == several
