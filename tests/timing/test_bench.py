"""`normexport bench`: what is measured, on what, against what; what is refused. No test here looks at a time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import normexport
from normexport.errors import FoldError, MissingComponent, UsageError
from normexport.timing import openers
from normexport.timing.case import Case, Opening
from normexport.timing.child import Child
from normexport.timing.result import Benchmark, Ratio
from normexport.timing.rounds import TURNS, take_turns

pytestmark = pytest.mark.slow

QUICK = normexport.BenchConfig(warm_up=1, duration=0.01, iterations=1, openings=1, most=1)


def saved(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}'), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    text = "g (float[N,4] x) => (float[N,4] y) {{ y = {}(x) }}"
    return [saved(tmp_path / f"{op}.onnx", text.format(op)) for op in ("Neg", "Exp")]


def test_every_case_of_the_grid_is_measured_and_compared_with_the_first_of_its_turns(files: list[Path]) -> None:
    config = dataclasses.replace(QUICK, batches=(1, 3), threads=(1, 2))
    result = normexport.bench(files, config=config)
    grid = [(each.batch, each.threads, each.file) for each in result.timings]
    assert sorted(grid) == sorted((b, t, f.name) for b in (1, 3) for t in (1, 2) for f in files)
    for ratio in result.ratios:
        case, base = result.timings[ratio.case], result.timings[ratio.base]
        assert (case.batch, case.threads, base.file) == (base.batch, base.threads, files[0].name)
        assert ratio.by_processor == (case.threads == 1)
        assert ratio.openings >= QUICK.openings
        assert ratio.words == "not known"  # one opening tells nothing
    assert len(result.ratios) == 4
    for timing in result.timings:
        assert len(timing.latencies) >= QUICK.iterations
        assert timing.latency(50) <= timing.latency(90) <= timing.latency(99)
        assert timing.throughput == pytest.approx(timing.batch / timing.latencies.mean())
        assert min(timing.load, timing.first) > 0


def test_one_file_is_compared_over_its_numbers_of_threads(files: list[Path]) -> None:
    result = normexport.bench(files[:1], config=dataclasses.replace(QUICK, threads=(1, 2)))
    (ratio,) = result.ratios
    assert [result.timings[each].threads for each in (ratio.base, ratio.case)] == [1, 2]
    assert not ratio.by_processor


def test_a_lone_case_is_compared_with_nothing(files: list[Path]) -> None:
    result = normexport.bench(files[:1], config=QUICK)
    assert result.ratios == ()
    json.dumps(result.as_dict())


def test_a_file_that_computes_for_longer_by_far_is_slower(tmp_path: Path) -> None:
    """No look at a clock: 1 against 400 products of matrices can't be confused by any load."""
    head = "g (float[N,64] x) => (float[N,64] y) {"
    one = saved(tmp_path / "one.onnx", f"{head} y = Neg(x) }}")
    names = ["x", *(f"a{index}" for index in range(400)), "y"]
    steps = [f"{b} = Softmax({a})" for a, b in itertools.pairwise(names)]
    many = saved(tmp_path / "many.onnx", f"{head} {' '.join(steps)} }}")
    config = dataclasses.replace(QUICK, openings=8, batches=(64,))
    (ratio,) = normexport.bench([one, many], config=config).ratios
    assert ratio.interval.low > 1
    assert ratio.words.endswith("slower")


def test_files_that_read_different_inputs_are_refused(tmp_path: Path, files: list[Path]) -> None:
    other = saved(tmp_path / "other.onnx", "g (float[N,5] x) => (float[N,5] y) { y = Neg(x) }")
    with pytest.raises(UsageError):
        normexport.bench([files[0], other], config=QUICK)
    with pytest.raises(UsageError, match="was given no file"):
        normexport.bench([], config=QUICK)


def test_data_is_what_is_fed_and_too_little_is_refused(tmp_path: Path, files: list[Path]) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((2, 4), np.float32))
    given = dataclasses.replace(QUICK, data=tmp_path / "data.npz", batches=(2,))
    assert normexport.bench(files[:1], config=given).real
    with pytest.raises(UsageError, match="fewer than 5 samples"):
        normexport.bench(files[:1], config=dataclasses.replace(given, batches=(5,)))


def test_a_file_that_ends_its_process_is_told_in_one_line(tmp_path: Path) -> None:
    """The smallest number divided by -1 ends ONNX Runtime's process with a signal."""
    path = saved(
        tmp_path / "dies.onnx",
        "g (float[N,1] x) => (int32[1] y) <int32[1] a = {-2147483648}, int32[1] b = {-1}>"
        " { s = Cast<to = 6>(x) t = ReduceMax<keepdims = 0>(s) u = Mul(t, b) v = Abs(u) w = Min(v, b) y = Div(a, w) }",
    )
    case = Case("dies.onnx", Opening("onnxruntime", path, 1, ("x",)), 1, {"x": np.ones((1, 1), np.float32)})
    with Child(case) as child, pytest.raises(FoldError, match="was ended by SIGFPE"):
        child.open(0.001)


def test_what_a_library_prints_does_not_get_between_the_answers(tmp_path: Path) -> None:
    path = saved(tmp_path / "quiet.onnx", "g (float[N,2] x) => (float[N,2] y) { y = Neg(x) }")
    case = Case("quiet.onnx", Opening("onnxruntime", path, 1, ("x",)), 1, {"x": np.ones((1, 2), np.float32)})
    with Child(case) as child:
        assert child.open(0.001).warm > 0
        block = child.block(5)
        assert len(block.wall) == len(block.processor) == 5
        assert min(block.wall) > 0
    with pytest.raises(FoldError):  # its process is gone
        child.block(1)


def test_a_runtime_that_is_missing_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingComponent, match="pip install"):
        openers.import_runtime(Opening("onnxruntime", Path("x.onnx"), 1, ("x",)))


def test_cases_take_turns_a_fixed_number_of_times_at_most(files: list[Path]) -> None:
    cases = [Case(f.name, Opening("onnxruntime", f, 1, ("x",)), 1, {"x": np.ones((1, 4), np.float32)}) for f in files]
    timings, ratios = take_turns(cases, QUICK, 1, lambda stage: None)
    assert len(timings) == 2
    assert len(ratios) == 1
    assert TURNS > 0


def test_words_tell_the_direction() -> None:
    def words(low: float, high: float) -> str:
        return Ratio(1, 0, normexport.Interval(math.sqrt(low * high), low, high), False, 10).words

    assert words(1.04, 1.06) == "5.0 % slower"
    assert words(0.94, 0.96) == "5.0 % faster"
    assert words(0.99, 1.06) == "no difference"
    assert words(0.0, math.inf) == "not known"
    assert isinstance(Benchmark((), (), False, {}).as_dict()["timings"], list)
