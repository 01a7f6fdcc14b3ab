"""Evaluation of data that outgrows memory: read as its turn comes, from any form, all of it or a drawn part."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
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
from normexport.runtime import OnnxRuntime
from tests.precision import nets
from tests.proof.inputs import stored
from tests.proof.inputs.stored import FORMS

pytestmark = pytest.mark.slow

SPEC = nets.SPEC


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return fold(onnx_export.export(nets.stressed(), (SPEC,)).model).model


def right(model: ir.Model, labels: list[int], images: Any) -> int:
    """How often the model is right, by one run over all."""
    (scores,) = OnnxRuntime(model).run({"input": stored.values(images)}).values()
    return int((scores.argmax(1) == np.array(labels)).sum())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_is_counted_alike(form: Callable[..., str], model: ir.Model, tmp_path: Path) -> None:
    images, labels = stored.pictures(90), stored.classes(90)
    path = form(tmp_path, images, labels)
    found = normexport.evaluate(model, path)
    assert (found.samples, found.correct) == (90, right(model, labels, images))
    some = normexport.evaluate(model, path, samples=31, seed=2)
    numbers = np.array(sorted(range(90), key=lambda number: _rank(2, number))[:31])
    numbers.sort()
    assert (some.samples, some.correct) == (31, right(model, [labels[each] for each in numbers], images[numbers]))


def _rank(seed: int, number: int) -> bytes:
    import hashlib

    return hashlib.sha256(f"{seed}:{number}".encode()).digest()


def test_memory_holds_a_batch_of_the_data_and_no_more(tmp_path: Path) -> None:
    """Of 200 MB of samples 64 are 3 MB."""
    spec = InputSpec("input", (3, 64, 64))
    whole = fold(onnx_export.export(nets.stressed(), (spec,)).model).model
    count = 4096
    images = np.zeros((count, *spec.shape), np.float32)
    images[:, 0] = np.arange(count)[:, None, None] % 7
    np.savez_compressed(tmp_path / "a.npz", input=images, labels=np.arange(count) % 5)
    size = images.nbytes
    del images
    tracemalloc.start()
    try:
        found = normexport.evaluate(whole, tmp_path / "a.npz")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.samples == count
    assert most < size / 8


def test_labels_that_are_not_as_many_and_draws_that_mean_nothing_are_refused(model: ir.Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input=np.zeros((9, *SPEC.shape), np.float32), labels=np.zeros(8, np.int64))
    for samples in (None, 4):
        with pytest.raises(UsageError, match="labels: are 8, the samples 9"):
            normexport.evaluate(model, tmp_path / "a.npz", samples=samples)
    save_onnx(model, tmp_path / "model.onnx")
    words = ["evaluate", str(tmp_path / "model.onnx"), "--data", str(tmp_path / "a.npz")]
    for options, told in ((["--samples", "0"], "--samples 0: is not a number"), (["--seed", "1"], "draws nothing")):
        result = CliRunner().invoke(app, [*words, *options])
        assert result.exit_code == ExitCode.USAGE
        assert told in result.stderr


def test_the_command_line_draws_from_shards(model: ir.Model, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "model.onnx")
    pattern = stored.shards(tmp_path, stored.pictures(30), stored.classes(30))
    words = ["evaluate", str(tmp_path / "model.onnx"), "--data", pattern, "--samples", "12", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (ExitCode.GOOD, ExitCode.INCONCLUSIVE), result.stderr
    document = json.loads(result.stdout)
    assert document["samples"] == 12
    assert document["correct"] == normexport.evaluate(model, pattern, samples=12).correct


def test_samples_that_can_not_be_read_are_left_out_with_their_labels(model: ir.Model, tmp_path: Path) -> None:
    images, labels = stored.pictures(90), stored.classes(90)
    members: dict[str, bytes] = {}
    for number, image in enumerate(images):
        content = b"no picture" if number in (0, 1, 70) else stored.png(image)
        members |= {f"{number:02}.png": content, f"{number:02}.cls": b"%d" % labels[number]}
    shard = tmp_path / "a.tar"
    shard.write_bytes(stored.tar(members))
    good = [number for number in range(90) if number not in (0, 1, 70)]
    with pytest.raises(UsageError, match=r"00.png: is not an image"):
        normexport.evaluate(model, shard)
    with pytest.raises(UsageError, match=r"has more than 2 samples that can't be read: .*00.png"):
        normexport.evaluate(model, shard, skip_bad=2)
    for on in (None, normexport.Where()):
        found = normexport.evaluate(model, shard, model, skip_bad=3, limits=normexport.Limits(max_drop=1.0), on=on)
        assert found.samples == 87
        assert found.correct == right(model, [labels[each] for each in good], images[good])
        assert [name in line for name, line in zip(("00.png", "01.png", "70.png"), found.skipped, strict=True)] == [
            True
        ] * 3
