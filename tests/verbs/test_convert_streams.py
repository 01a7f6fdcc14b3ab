"""Data that judges a conversion: read as its turn comes, from any form, all of it, a drawn part, what can be read."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Sequence
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
from normexport.precision import streams
from normexport.precision.streams import kept_in_memory, stream_of, without_unreadable
from normexport.reports import Conversion
from normexport.runtime import OnnxRuntime
from tests.narrow import present
from tests.precision import nets
from tests.proof.inputs import stored
from tests.proof.inputs.stored import FORMS

pytestmark = pytest.mark.slow

SPEC = nets.SPEC
IMAGES, CLASSES = stored.pictures(60), stored.classes(60)


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return fold(onnx_export.export(nets.stressed(), (SPEC,)).model).model


def int8(model: ir.Model, data: str | Path | None, folder: Path, **how: Any) -> Conversion:
    """Converted without edits, and whatever it loses: what is looked at here is on which samples."""
    draw = how.pop("draw", normexport.Draw())
    precision = normexport.Int8(min_snr=-1000.0, max_drop=100.0, effort="none", **how)
    return normexport.convert(model, folder, config=normexport.ConvertConfig(data=data, draw=draw, precision=precision))


def graph_of(folder: Path) -> bytes:
    """The file without what it says of its origin, in which the data is named by its hash."""
    model = ir.load(folder / "model.onnx")
    model.metadata_props.clear()
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def drawn(count: int, most: int, seed: int) -> list[int]:
    """As the documentation says it."""
    ranked = sorted(range(count), key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())
    return sorted(ranked[:most])


def judging(numbers: Sequence[int]) -> list[int]:
    """Every fourth of what is given for both."""
    return list(numbers)[3::4]


def right(file: Path, numbers: Sequence[int]) -> int:
    """How often a file is right on these, by one run over them all."""
    (scores,) = OnnxRuntime(ir.load(file)).run({"input": stored.values(IMAGES[np.array(numbers)])}).values()
    return int((scores.argmax(1) == np.array(CLASSES)[np.array(numbers)]).sum())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_makes_and_judges_the_same_model(
    form: Callable[..., str], model: ir.Model, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    path = form(tmp_path / "data", IMAGES, CLASSES)
    accuracy = present(present(int8(model, path, tmp_path / "form").precision).accuracy)
    kept = judging(range(60))
    assert (accuracy.samples, accuracy.correct) == (15, right(tmp_path / "form" / "model.onnx", kept))
    np.savez(tmp_path / "whole.npz", input=stored.values(IMAGES), labels=np.array(CLASSES))
    int8(model, tmp_path / "whole.npz", tmp_path / "whole")
    assert graph_of(tmp_path / "form") == graph_of(tmp_path / "whole")


@pytest.mark.parametrize("form", [stored.shards, stored.npz_files])
def test_samples_that_are_not_kept_in_memory_give_the_same_model(
    form: Callable[..., str], model: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    path = form(tmp_path / "data", IMAGES, CLASSES)
    first = int8(model, path, tmp_path / "kept", draw=normexport.Draw(41, seed=2))
    monkeypatch.setattr(streams, "MOST_KEPT", 0)
    second = int8(model, path, tmp_path / "read", draw=normexport.Draw(41, seed=2))
    files = [(tmp_path / name / "model.onnx").read_bytes() for name in ("kept", "read")]
    assert files[0] == files[1]
    for each in (first, second):
        found = present(present(each.precision).accuracy)
        assert (found.samples, found.correct) == (
            10,
            right(tmp_path / "read" / "model.onnx", judging(drawn(60, 41, 2))),
        )


def test_a_draw_takes_the_samples_that_the_documentation_says(model: ir.Model, tmp_path: Path) -> None:
    path = stored.shards(tmp_path, IMAGES, CLASSES)
    some = drawn(60, 23, 5)
    found = int8(model, path, tmp_path / "a", draw=normexport.Draw(23, seed=5))
    accuracy = present(present(found.precision).accuracy)
    assert (accuracy.samples, accuracy.correct) == (5, right(tmp_path / "a" / "model.onnx", judging(some)))
    arrays = {"input": stored.values(IMAGES[np.array(some)]), "labels": np.array(CLASSES)[np.array(some)]}
    np.savez(tmp_path / "some.npz", **arrays)
    int8(model, tmp_path / "some.npz", tmp_path / "b")
    assert graph_of(tmp_path / "a") == graph_of(tmp_path / "b")


def test_more_than_there_are_is_all_of_them(model: ir.Model, tmp_path: Path) -> None:
    path = stored.shards(tmp_path, IMAGES, CLASSES)
    for name, draw in (("all", normexport.Draw()), ("more", normexport.Draw(1_000_000, seed=3))):
        int8(model, path, tmp_path / name, draw=draw)
        int8(model, None, tmp_path / f"{name} calibrate", draw=draw, calibration=path)
    assert graph_of(tmp_path / "all") == graph_of(tmp_path / "more")
    assert graph_of(tmp_path / "all calibrate") == graph_of(tmp_path / "more calibrate")


def test_memory_holds_a_batch_of_the_data_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 MB of samples 64 are 3 MB."""
    monkeypatch.setattr(streams, "MOST_KEPT", 1 << 20)
    spec = InputSpec("input", (3, 64, 64))
    whole = fold(onnx_export.export(nets.stressed(), (spec,)).model).model
    images = np.zeros((2048, *spec.shape), np.float32)
    images[:, 0] = np.arange(2048)[:, None, None] % 7
    np.savez_compressed(tmp_path / "a.npz", input=images, labels=np.arange(2048) % 5)
    size = images.nbytes
    del images
    tracemalloc.start()
    try:
        found = present(present(int8(whole, tmp_path / "a.npz", tmp_path / "out").precision).accuracy)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.samples == 512
    assert most < size / 4


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 60 pictures the first, the fourth, which would judge, and the last are none."""
    members: dict[str, bytes] = {}
    for number, image in enumerate(IMAGES):
        content = b"no picture" if number in BAD else stored.png(image)
        members |= {f"{number:02}.png": content, f"{number:02}.cls": b"%d" % CLASSES[number]}
    shard = tmp_path_factory.mktemp("poisoned") / "a.tar"
    shard.write_bytes(stored.tar(members))
    return shard


BAD = (0, 3, 59)
GOOD = [number for number in range(60) if number not in BAD]


@pytest.mark.parametrize("on", [None, normexport.Where()])
def test_samples_that_can_not_be_read_are_left_out_with_their_labels(
    on: normexport.Where | None, model: ir.Model, poisoned: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"00.png: is not an image"):
        int8(model, poisoned, tmp_path / "out", on=on)
    with pytest.raises(UsageError, match=r"has more than 2 samples that can't be read: .*00.png"):
        int8(model, poisoned, tmp_path / "out", draw=normexport.Draw(skip_bad=2), on=on)
    assert not (tmp_path / "out").exists()
    found = int8(model, poisoned, tmp_path / "out", draw=normexport.Draw(skip_bad=3), on=on)
    accuracy = present(present(found.precision).accuracy)
    kept = judging(GOOD)
    assert (accuracy.samples, accuracy.correct) == (14, right(tmp_path / "out" / "model.onnx", kept))
    names = ("00.png", "03.png", "59.png")
    for lines in ([note for note in found.notes if note.startswith("left out: ")], accuracy.skipped):
        assert [name in line for name, line in zip(names, lines, strict=True)] == [True] * 3
    arrays = {"input": stored.values(IMAGES[np.array(GOOD)]), "labels": np.array(CLASSES)[np.array(GOOD)]}
    np.savez(tmp_path / "good.npz", **arrays)
    int8(model, tmp_path / "good.npz", tmp_path / "good", on=on)
    assert graph_of(tmp_path / "out") == graph_of(tmp_path / "good")


def test_what_calibrates_may_lack_samples_too_and_says_which(model: ir.Model, poisoned: Path, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "model.onnx")
    words = ["convert", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out"), "--precision", "int8"]
    words += ["--calibration-data", str(poisoned), "--min-snr", "-1000", "--skip-bad", "3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (ExitCode.GOOD, ExitCode.INCONCLUSIVE), result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for name in ("00.png", "03.png", "59.png"):
        assert sum(f"{name}: is not an image" in " ".join(line.split()) for line in report["precision"]["notes"]) == 1
        assert name in result.stdout
        assert name in (tmp_path / "out" / "report.html").read_text()
    assert report["precision"]["calibration"]["samples"] == 57 - 14


def test_the_command_line_lists_what_it_leaves_out(model: ir.Model, poisoned: Path, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "model.onnx")
    words = ["convert", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out"), "--data", str(poisoned)]
    result = CliRunner().invoke(app, [*words, "--skip-bad", "3", "--samples", "59"])
    assert result.exit_code == ExitCode.GOOD, result.stderr
    lost = [number for number in drawn(60, 59, 0) if number in BAD]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    told = [note for note in report["notes"] if note.startswith("left out: ")]
    assert [f"{number:02}.png" in line for number, line in zip(lost, told, strict=True)] == [True] * len(lost)
    assert result.stdout.count("left out: ") == len(lost)


def test_an_int8_file_is_judged_on_the_samples_that_are_meant(model: ir.Model, poisoned: Path, tmp_path: Path) -> None:
    int8(model, stored.shards(tmp_path, IMAGES, CLASSES), tmp_path / "out")
    save_onnx(model, tmp_path / "model.onnx")
    draw = normexport.Draw(31, seed=6, skip_bad=3)
    words = normexport.Limits(-1000.0)
    found = normexport.parity(model, tmp_path / "out" / "model.onnx", data=poisoned, limits=words, draw=draw)
    assert isinstance(found, normexport.SnrReport)
    some = drawn(60, 31, 6)
    assert found.samples == len([number for number in some if number in GOOD])
    lost = [number for number in some if number in BAD]
    assert [f"{number:02}.png" in line for number, line in zip(lost, found.skipped, strict=True)] == [True] * 2
    given = {"input": stored.values(IMAGES[np.array([number for number in some if number in GOOD])])}
    exact, other = (
        next(iter(OnnxRuntime(each).run(given).values())) for each in (model, ir.load(tmp_path / "out" / "model.onnx"))
    )
    signal, noise = np.square(exact - exact.mean(0)).sum(), np.square(other - exact).sum()
    assert present(found.outputs[0].snr_db) == pytest.approx(10 * np.log10(signal / noise), rel=1e-3)
    command = ["parity", str(tmp_path / "model.onnx"), str(tmp_path / "out" / "model.onnx"), "--data", str(poisoned)]
    result = CliRunner().invoke(app, [*command, "--skip-bad", "3", "--min-snr", "-1000"])
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert [name in result.stdout for name in ("00.png", "03.png", "59.png")] == [True] * 3


@pytest.mark.parametrize("verb", ["convert", "parity"])
def test_a_draw_from_nothing_is_refused(verb: str, model: ir.Model, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "model.onnx")
    files = [str(tmp_path / "model.onnx")] * (1 if verb == "convert" else 2)
    for options in (["--samples", "5"], ["--skip-bad", "1"]):
        result = CliRunner().invoke(app, [verb, *files, *options])
        assert result.exit_code == ExitCode.USAGE
        assert result.stderr.splitlines() == [
            f"error: {' '.join(options)}: means nothing without data; give --data too, or leave it out"
        ]


def test_a_model_of_a_fixed_batch_refuses_to_pick(tmp_path: Path) -> None:
    fixed = InputSpec("input", (4, *SPEC.shape), batched=False)
    assert stream_of(tmp_path, (fixed,), 8) is None
    with pytest.raises(UsageError, match=r"--samples 3: is for models of which every input has an open batch"):
        stream_of(tmp_path, (fixed,), 8, normexport.Draw(3))


def test_samples_in_memory_are_read_once_and_travel_as_their_numbers(tmp_path: Path) -> None:
    import pickle

    path = stored.shards(tmp_path, IMAGES, CLASSES)
    stream = present(stream_of(path, (SPEC,), 8))
    kept = kept_in_memory(stream)
    assert kept.digest() == stream.digest()
    assert len(pickle.dumps(kept)) < 2 * len(pickle.dumps(stream)) < stored.values(IMAGES).nbytes
    (first,), (second,) = (list(each.samples.read(7)) for each in (kept, pickle.loads(pickle.dumps(kept))))
    np.testing.assert_array_equal(first["input"], second["input"])
    assert next(iter(kept.samples.read(7)))["input"] is first["input"]


def test_a_search_finds_every_sample_that_can_not_be_read(poisoned: Path) -> None:
    for batch in (1, 7, 64):
        stream = present(stream_of(poisoned, (SPEC,), batch, normexport.Draw(skip_bad=3)))
        found, lines = without_unreadable(stream)
        assert (list(found.numbers), found.skips, len(lines)) == (GOOD, 0, 3)
    alone = present(stream_of(poisoned, (SPEC,), 8, normexport.Draw(skip_bad=60)))
    with pytest.raises(UsageError, match="holds no samples that can be read"):
        without_unreadable(alone.at([0, 3, 59]))
