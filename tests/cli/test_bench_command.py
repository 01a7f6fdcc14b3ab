"""`normexport bench` on the command line: what it takes, refuses and writes. No time is looked at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import normexport
from normexport.errors import ExitCode, UsageError
from normexport.verbs.bench import shapes_as_inputs
from tests.cli.conftest import Run
from tests.foreign import needs_openvino
from tests.timing.test_bench import QUICK, saved

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    text = "g (float[N,4] x) => (float[N,4] y) {{ y = {}(x) }}"
    return [saved(tmp_path / f"{op}.onnx", text.format(op)) for op in ("Neg", "Exp")]


@needs_openvino
def test_runtimes_take_what_they_can_and_a_file_that_none_takes_is_refused(files: list[Path], made: Path) -> None:
    both = dataclasses.replace(QUICK, runtimes=("onnxruntime", "openvino", "torch"))
    result = normexport.bench([files[0]], config=both)
    assert {each.runtime for each in result.timings} == {"onnxruntime", "openvino"}
    with pytest.raises(UsageError, match="runs on none of torch"):
        normexport.bench(files, config=dataclasses.replace(QUICK, runtimes=("torch",)))
    with pytest.raises(UsageError, match="is no runtime"):
        dataclasses.replace(QUICK, runtimes=("abacus",))


def test_a_checkpoint_and_its_onnx_file_take_turns(made: Path, converted: Path) -> None:
    result = normexport.bench([made / "model.pt2", converted / "model.onnx"], config=QUICK)
    assert [each.runtime for each in result.timings] == ["torch", "onnxruntime"]
    weights = dataclasses.replace(QUICK, load={"model": "tests.cli.small_nets:Small"})
    alone = normexport.bench([made / "weights.pth"], ["3x8x8"], weights)
    assert alone.timings[0].runtime == "torch"


def test_a_file_that_runs_code_runs_none_unless_it_is_trusted(made: Path) -> None:
    with pytest.raises(normexport.CheckpointError, match="trust"):
        normexport.bench([made / "module.pt"], ["3x8x8"], QUICK)


def test_open_sizes_are_told_by_shapes_as_trtexec_writes_them(tmp_path: Path, run: Run) -> None:
    path = saved(
        tmp_path / "open.onnx", "g (float[N,K] x, int64[N] i) => (float[N,K] y, int64[N] j) { y = Neg(x) j = Neg(i) }"
    )
    specs, batch = shapes_as_inputs({"x": (3, 5), "i": (3,)})
    assert batch == 3
    assert [spec.shape for spec in specs] == [(5,), ()]
    words = ("--shapes", "x:3x5", "--warmUp", "1", "--duration", "0.01", "--openings", "2", "--json")
    done = run("bench", path, *words)
    assert done.exit_code == ExitCode.GOOD, done.stderr
    assert json.loads(done.stdout)["timings"][0]["batch"] == 3
    assert run("bench", path, "--shapes", "x:3x5", "--batches", "2").exit_code == ExitCode.USAGE
    with pytest.raises(UsageError, match="share no first size"):
        shapes_as_inputs({"x": (3, 5), "i": (4,)})


def test_the_terminal_shows_cases_and_what_is_told_of_them(files: list[Path], run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[plot]'")
    length = ("--warmUp", "1", "--duration", "0.01", "--openings", "2")
    done = run("bench", *files, *length, "--plot", "p.svg", "--exportTimes", "t.json")
    assert done.exit_code == ExitCode.GOOD, done.stderr
    assert "p99" in done.stdout
    assert "too few openings" in done.stdout
    assert (tmp_path / "p.svg").read_text().lstrip().startswith("<?xml")
    times = json.loads((tmp_path / "t.json").read_text())
    assert all(len(each["latencies"]) == each["calls"] for each in times["timings"])


@pytest.mark.parametrize(
    "words",
    [
        ("--threads", "x"),
        ("--batches", "0"),
        ("--duration", "0"),
        ("--duration", "nan"),
        ("--iterations", "0"),
        ("--warmUp", "-1"),
        ("--runtime", "abacus"),
        ("--plot", "picture"),
        ("--plot", "Neg.onnx"),
        ("--shapes", "x"),
        ("--percentile", "x"),
        ("--percentile", "101"),
        ("--percentile", "nan"),
        ("--avgRuns", "0"),
    ],
)
def test_what_can_not_be_meant_is_refused_before_anything_is_measured(
    files: list[Path],
    run: Run,
    words: tuple[str, ...],
) -> None:
    done = run("bench", *files, *words)
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.count("\n") == 1


def test_percentiles_and_means_of_calls_are_those_that_are_asked_for(files: list[Path], run: Run) -> None:
    """numpy is the witness, on the latencies that --exportTimes writes."""
    length = ("--warmUp", "1", "--duration", "0.01", "--openings", "1", "--iterations", "25")
    done = run(
        "bench", files[0], *length, "--percentile", "0,95,99.5,100", "--avgRuns", "10", "--exportTimes", "t.json"
    )
    assert done.exit_code == ExitCode.GOOD, done.stderr
    assert all(word in done.stdout for word in ("p0 ", "p95", "p99.5", "p100", "means of 10 calls"))
    assert "p50" not in done.stdout
    (timing,) = json.loads(Path("t.json").read_text())["timings"]
    times = timing["latencies"]
    assert timing["p0"] == min(times)
    assert timing["p100"] == max(times)
    assert timing["p95"] == pytest.approx(np.percentile(times, 95))
    assert timing["averages"] == pytest.approx(
        [np.mean(times[start : start + 10]) for start in range(0, len(times) - 9, 10)]
    )
    assert len(timing["averages"]) == len(times) // 10
