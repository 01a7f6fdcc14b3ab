"""Verbs that look at a few samples read these alone: the first, or the first that are drawn, of any amount of data."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

import normexport
from normexport import onnx_export
from normexport.errors import ExitCode, UsageError
from normexport.folding import fold
from normexport.io.onnx_model import save_onnx
from normexport.onnx_export import InputSpec
from normexport.precision.config import Draw
from normexport.proof.inputs import data as whole_data
from normexport.timing.config import BenchConfig
from normexport.verbs.real_data import RealData
from tests.precision import nets
from tests.proof.inputs import stored

pytestmark = pytest.mark.slow

SPEC = nets.SPEC
SHORT = BenchConfig(openings=1, duration=0.02, warm_up=1, iterations=2)
IMAGES, CLASSES = stored.pictures(40), stored.classes(40)


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return fold(onnx_export.export(nets.stressed(), (SPEC,)).model).model


@pytest.fixture(scope="module")
def fixed(model: ir.Model) -> ir.Model:
    """The same, of a batch of two."""
    made = model.clone()
    made.graph.inputs[0].shape = ir.Shape((2, *SPEC.shape))
    made.graph.outputs[0].shape = ir.Shape((2, *list(made.graph.outputs[0].shape or ())[1:]))
    return made


def spoilt(model: ir.Model) -> ir.Model:
    """With other weights in its first layer."""
    made = model.clone()
    weights = next(each for each in made.graph.initializers.values() if each.shape is not None and len(each.shape) == 4)
    assert weights.const_value is not None
    weights.const_value = ir.tensor(weights.const_value.numpy() * np.float32(1.5))
    return made


def drawn(count: int, most: int, seed: int) -> list[int]:
    """As the documentation says it."""
    ranked = sorted(range(count), key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())
    return sorted(ranked[:most])


@pytest.mark.parametrize("form", [*stored.FORMS, *stored.TABLES])
def test_the_first_of_any_form_are_read(form: Callable[..., str], tmp_path: Path) -> None:
    if form in stored.TABLES:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'normexport[parquet]'")
    path = form(tmp_path, IMAGES, CLASSES)
    for draw, numbers in ((Draw(), list(range(40))), (Draw(11, seed=3), drawn(40, 11, 3))):
        few = RealData(path, draw=draw).first((SPEC,), 6).few
        np.testing.assert_array_equal(few["input"], stored.values(IMAGES[np.array(numbers[:6])]))


def only_readable(folder: Path, numbers: Sequence[int]) -> Path:
    """40 arrays, of which no others can be read."""
    members = {
        f"{number:02}.npy": stored.npy(array) if number in numbers else b"no array"
        for number, array in enumerate(stored.values(IMAGES))
    }
    (folder / "a.tar").write_bytes(stored.tar(members))
    return folder / "a.tar"


def test_a_draw_reads_its_own_samples_and_no_other(model: ir.Model, tmp_path: Path) -> None:
    path = only_readable(tmp_path, drawn(40, 5, 2))
    found = normexport.bench([model], config=replace(SHORT, batches=(5,), data=path, samples=5, seed=2))
    assert found.timings[0].batch == 5
    assert normexport.bisect(model, spoilt(model), data=path, draw=Draw(5, seed=2)).judgement.verdict.name == "FAILED"
    same = normexport.bisect(model, model.clone(), data=path, draw=Draw(5, seed=2))
    assert same.judgement.passed
    for run in (
        lambda: normexport.bench([model], config=replace(SHORT, batches=(5,), data=path, samples=5, seed=3)),
        lambda: normexport.bisect(model, spoilt(model), data=path, draw=Draw(5, seed=3)),
    ):
        with pytest.raises(UsageError, match=r"a.tar: \d\d.npy: is not a numpy file"):
            run()


def test_samples_that_are_passed_over_are_told_and_no_more_than_may_be(model: ir.Model, tmp_path: Path) -> None:
    path = only_readable(tmp_path, [number for number in range(40) if number not in (0, 2, 39)])
    found = normexport.bench([model], config=replace(SHORT, batches=(4,), data=path, skip_bad=2))
    assert ["00.npy" in found.notes[-2], "02.npy" in found.notes[-1]] == [True, True]
    told = normexport.bisect(model, spoilt(model), data=path, draw=Draw(skip_bad=3))
    assert [note.startswith("left out: ") for note in told.notes[-3:]] == [True, True, True]
    for run in (
        lambda: normexport.bench([model], config=replace(SHORT, batches=(4,), data=path, skip_bad=1)),
        lambda: normexport.bisect(model, spoilt(model), data=path, draw=Draw(skip_bad=1)),
    ):
        with pytest.raises(UsageError, match=r"has more than 1 samples that can't be read: .*00.npy.*02.npy"):
            run()


def test_a_fixed_batch_reads_the_runs_that_it_needs(fixed: ir.Model, tmp_path: Path) -> None:
    """What follows is NaN, which whole arrays are refused for."""
    values = stored.values(IMAGES)
    values[8:] = np.nan
    np.savez(tmp_path / "a.npz", input=values)
    assert normexport.bench([fixed], config=replace(SHORT, data=tmp_path / "a.npz")).timings[0].batch == 0
    assert normexport.bisect(fixed, spoilt(fixed), data=tmp_path / "a.npz").judgement.verdict.name == "FAILED"
    few = RealData(tmp_path / "a.npz").first((InputSpec("input", (2, *SPEC.shape), batched=False),), 1, 4).few
    np.testing.assert_array_equal(few["input"], values[:8])
    with pytest.raises(UsageError, match="--samples 3: is for models of which every input has an open batch"):
        normexport.bench([fixed], config=replace(SHORT, data=tmp_path / "a.npz", samples=3))


@pytest.mark.parametrize("verb", ["bench", "bisect"])
def test_memory_holds_a_few_samples(verb: str, tmp_path: Path) -> None:
    """Of 100 MB of samples."""
    spec = InputSpec("input", (3, 64, 64))
    model = fold(onnx_export.export(nets.stressed(), (spec,)).model).model
    images = np.zeros((2048, *spec.shape), np.float32)
    images[:, 0] = np.arange(2048)[:, None, None] % 7
    np.savez_compressed(tmp_path / "a.npz", input=images)
    size = images.nbytes
    del images
    runs: dict[str, Callable[[], Any]] = {
        "bench": lambda: normexport.bench([model], config=replace(SHORT, batches=(1, 8), data=tmp_path / "a.npz")),
        "bisect": lambda: normexport.bisect(model, spoilt(model), data=tmp_path / "a.npz"),
    }
    tracemalloc.start()
    try:
        runs[verb]()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < size / 2


def test_what_has_to_be_in_memory_as_a_whole_says_what_it_takes_before_it_is_read(
    fixed: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", input=stored.values(IMAGES))
    size = stored.values(IMAGES).nbytes
    monkeypatch.setattr(whole_data, "available_memory", lambda: 2 * size - 1)
    monkeypatch.setattr("normexport.io.numpy_files.StoredArray.read", lambda *what: pytest.fail("it was read"))
    with pytest.raises(UsageError, match=r"a.npz: holds 40 samples, 0.0 GB in memory, and 0.0 GB are free"):
        normexport.evaluate(fixed, tmp_path / "a.npz", fixed)


def test_the_commands_take_a_draw(model: ir.Model, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "a.onnx")
    save_onnx(spoilt(model), tmp_path / "b.onnx")
    path = only_readable(tmp_path, drawn(40, 2, 7))
    draw = ["--data", str(path), "--samples", "2", "--seed", "7"]
    short = ["--openings", "1", "--duration", "0.02", "--warmUp", "1", "--batches", "2"]
    result = CliRunner().invoke(app, ["bench", str(tmp_path / "a.onnx"), *draw, *short])
    assert result.exit_code == ExitCode.GOOD, result.stderr
    words = ["bisect", *(str(tmp_path / name) for name in ("a.onnx", "b.onnx")), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*words, *draw]).exit_code == ExitCode.FAILED
    assert (tmp_path / "out" / "show.py").exists()
    for line in (["bench", str(tmp_path / "a.onnx"), *short], words):
        result = CliRunner().invoke(app, [*line, "--samples", "2"])
        assert result.exit_code == ExitCode.USAGE
        assert "--samples 2: means nothing without data" in result.stderr
