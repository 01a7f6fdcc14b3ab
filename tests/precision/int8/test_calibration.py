"""Ranges from streams of samples, their cache, and every way calibration data can be wrong."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision import METHODS, Int8
from normexport.precision.half.search import group_of
from normexport.precision.int8.calibration import calibrate, read_calibration
from normexport.precision.int8.histogram import COUNTED, MOST, Histogram
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.ranges import RANGE_OF, int8_range
from normexport.precision.samples import batches_of, digest_of
from normexport.proof.inputs.npz_stream import slices_of
from normexport.runtime import OnnxRuntime
from tests.precision import nets

pytestmark = pytest.mark.slow

SPECS = (nets.SPEC,)


def images(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *nets.SPEC.shape)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 5), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_a_histogram_counts_every_value_in_its_own_bin_however_the_range_grows(
    seed: int, parts: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(rng.uniform(-3, 3), 10.0 ** rng.uniform(-2, 1), 200).astype(np.float32) for _ in range(parts)]
    histogram = Histogram()
    for array in arrays:
        histogram.add(array * np.float32(scale))
    values = np.concatenate(arrays) * np.float32(scale)
    centres, counts = histogram.bins()
    assert counts.sum() == values.size
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert len(counts) <= MOST + 2
    assert histogram.width <= (values.max() - values.min()) / MOST * 2.001
    expected = np.floor(values / histogram.width).astype(int)
    number, expected_counts = np.unique(expected, return_counts=True)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(centres, np.clip((number + 0.5) * histogram.width, values.min(), values.max()))


@settings(max_examples=25, deadline=None)
@given(low=st.floats(-50, 1e6), span=st.floats(1e-3, 1e6))
def test_a_histogram_tells_neighbouring_bins_apart_wherever_it_starts(low: float, span: float) -> None:
    values = np.sort(np.random.default_rng(2).uniform(low, low + span, 3000)).astype(np.float32)
    histogram = Histogram()
    histogram.add(values[::2])
    histogram.add(values[1::2])
    _, expected = np.unique(np.floor(values.astype(np.float64) / histogram.width), return_counts=True)
    np.testing.assert_array_equal(histogram.bins()[1], expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(COUNTED + 1, 5 * COUNTED), shift=st.floats(-2, 2))
def test_of_a_large_array_a_part_stands_for_all_and_the_extremes_are_in_it(seed: int, size: int, shift: float) -> None:
    values = np.random.default_rng(seed).laplace(shift, 1.0, size).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    _, counts = histogram.bins()
    assert abs(counts.sum() - size) < 8  # less than a step, and two ends
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    first, kept = histogram.counts()
    assert [first, first + len(kept) - 1] == [math.floor(end / histogram.width) for end in (values.min(), values.max())]
    again = Histogram.of(histogram.low, histogram.high, first, kept)
    np.testing.assert_array_equal(again.counts()[1], kept)
    inner = np.quantile(values, [0.05, 0.5, 0.95])
    centres, counts = histogram.bins()
    for share, value in zip((0.05, 0.5, 0.95), inner, strict=True):
        assert abs(counts[centres <= value].sum() / counts.sum() - share) < 0.01


@pytest.mark.parametrize("columns", [3, 5, 7, 11, 16, 49, 64, 384, 1000])
def test_of_a_large_array_every_channel_is_counted_wherever_channels_lie(columns: int) -> None:
    rows = 6 * COUNTED // columns
    lanes = np.arange(columns, dtype=np.float32)
    for array in (np.tile(lanes, rows), np.repeat(lanes, rows)):
        histogram = Histogram()
        histogram.add(array)
        found = np.floor(histogram.bins()[0])
        shares = np.bincount(found.astype(int), histogram.bins()[1], minlength=columns) / array.size
        assert np.abs(shares * columns - 1).max() < 0.02 + 3 * math.sqrt(columns / COUNTED)


def test_parts_of_large_arrays_add_up() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 10.0**number, 2 * COUNTED + number).astype(np.float32) for number in range(3)]
    whole = Histogram()
    for array in arrays:
        whole.add(array)
    parts = []
    for array in arrays:
        part = Histogram()
        part.add(array)
        parts.append(part)
    merged = parts[2].merged(parts[0]).merged(parts[1])
    assert (merged.low, merged.high, merged.counts()[0]) == (whole.low, whole.high, whole.counts()[0])
    np.testing.assert_array_equal(merged.counts()[1], whole.counts()[1])


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_of_a_part_is_as_good_as_of_all(symmetric: bool) -> None:
    values = np.random.default_rng(1).laplace(0.3, 1.0, 8 * COUNTED).astype(np.float32)
    part, whole = Histogram(), Histogram()
    part.add(values)
    for start in range(0, len(values), COUNTED):
        whole.add(values[start : start + COUNTED])
    ranges = [int8_range(RANGE_OF["mse"](each, symmetric), symmetric) for each in (part, whole)]
    assert error_of(values, *ranges[0]) <= 1.05 * error_of(values, *ranges[1])  # a step of the search


def everything_seen(model: ir.Model, x: np.ndarray) -> dict[str, tuple[float, float]]:
    """The extremes of every tensor of a model, without `calibrate`."""
    runtime = OnnxRuntime(model)
    names = [str(value.name) for node in model.graph for value in node.outputs]
    values = {"input": x, **runtime.run({"input": x}, names, None)}
    return {name: (float(array.min()), float(array.max())) for name, array in values.items()}


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_a_relu_alone_reads_needs_no_range_for_the_same_file(symmetric: bool) -> None:
    model, _ = nets.folded(branching)
    whole = everything_seen(model, images())
    found = calibrate(model, [{"input": images()}], "minmax", symmetric=symmetric).ranges
    assert found == {name: whole[name] for name in found}
    left_out = set(whole) - set(found)
    assert len(left_out) == 3  # in front of two ReLUs and a Clip; not in front of the one whose source is added too
    left, right = (quantize(model, ranges, symmetric=symmetric).model for ranges in (whole, found))
    assert ir.to_proto(left) == ir.to_proto(right)


def test_a_relu_that_stays_float32_by_itself_takes_what_its_layer_computes() -> None:
    model, _ = nets.folded(branching)
    found = calibrate(model, [{"input": images()}], "minmax").ranges
    relu = next(node for node in model.graph if node.op_type == "Relu")
    layer = relu.inputs[0]
    kept = quantize(model, found, exclude=[group_of(relu)]).model
    nodes = {node.op_type + str(node.outputs[0].name): node for node in kept.graph}
    same = nodes[f"Relu{relu.outputs[0].name}"]
    assert same.inputs[0] is not None
    assert layer is not None
    assert same.inputs[0].name == layer.name  # no pair between the two


class Branching(nn.Module):
    """Three layers whose ReLU or Clip alone reads them, and one that is added to what its ReLU makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 6, 3), nn.ReLU()
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.fourth, self.head = nn.Conv2d(6, 6, 3), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.first(x))
        y = self.second(x)
        x = torch.relu(self.third(y + torch.relu(y)))
        return self.head(torch.clamp(self.fourth(x), 0, 6).mean((2, 3)))


def branching() -> nn.Module:
    torch.manual_seed(4)
    return Branching().eval()


def error_of(values: np.ndarray, low: float | np.float64, high: float | np.float64) -> np.float64:
    """Mean square error of quantising to 256 levels over [low, high], straight from the definition."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    return np.square((np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step - values).mean()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["normal", "relu", "outlier"])
def test_mse_finds_the_range_with_the_least_error(shape: str, symmetric: bool) -> None:
    values = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    values = {"normal": values, "relu": np.maximum(values, 0), "outlier": np.append(values, np.float32(40))}[shape]
    histogram = Histogram()
    histogram.add(values)
    found = error_of(values, *int8_range(RANGE_OF["mse"](histogram, symmetric), symmetric))
    full = int8_range((values.min(), values.max()), symmetric)
    best = min(error_of(values, full[0] * share, full[1] * share) for share in np.linspace(0.05, 1, 400))
    assert found <= 1.05 * best


def test_percentile_leaves_one_value_in_ten_thousand_out_on_each_side() -> None:
    values = np.arange(-50_000, 50_001, dtype=np.float32) / 50_000
    histogram = Histogram()
    histogram.add(values)
    low, high = RANGE_OF["percentile"](histogram, False)
    assert (low, high) == pytest.approx((-0.9998, 0.9998), abs=1e-3)
    assert RANGE_OF["minmax"](histogram, False) == (-1, 1)


def test_entropy_cuts_a_lone_outlier_off_and_keeps_a_plain_distribution() -> None:
    rng = np.random.default_rng(2)
    for values, share in ((rng.uniform(-1, 1, 100_000), 0.9), (np.append(rng.normal(size=100_000), 60.0), 0.0)):
        histogram = Histogram()
        histogram.add(values.astype(np.float32))
        _, high = RANGE_OF["entropy"](histogram, False)
        if share:
            assert high >= share
        else:
            assert 2.5 < high < 20


def test_every_method_of_the_config_has_its_mathematics() -> None:
    assert set(RANGE_OF) == set(METHODS)
    assert Int8().method in METHODS


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_how_samples_are_batched(method: str) -> None:
    model, _ = nets.folded(nets.centred)
    ranges = [calibrate(model, batches_of(list(images()), SPECS, size)(), method).ranges for size in (4, 20)]
    assert ranges[0].keys() == ranges[1].keys() > {"input"}
    for name, found in ranges[0].items():
        assert found == pytest.approx(ranges[1][name], rel=2e-2, abs=1e-4)


def test_a_cache_says_what_it_was_made_from_and_gives_the_ranges_back(tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    made = batches_of(list(images()), SPECS, 4)
    calibration = calibrate(model, made(), "minmax")
    calibration.save(tmp_path / "cache.json")
    content = json.loads((tmp_path / "cache.json").read_text())
    assert (content["samples"], content["batch"], content["method"]) == (20, 4, "minmax")
    assert content["data"] == digest_of(made) != digest_of(batches_of(list(images(seed=1)), SPECS, 4))
    assert read_calibration(tmp_path / "cache.json", model, "minmax") == calibration


def test_a_cache_of_another_model_or_method_is_refused(tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    path = tmp_path / "cache.json"
    calibrate(model, batches_of(list(images()), SPECS)(), "minmax").save(path)
    with pytest.raises(UsageError, match="another model"):
        read_calibration(path, nets.folded(nets.growing)[0], "minmax")
    with pytest.raises(UsageError, match="ranges by minmax"):
        read_calibration(path, model, "mse")
    content = json.loads(path.read_text())
    for wrong in ([0, float("nan")], [1, 0], [0], "ab"):
        path.write_text(json.dumps(content | {"ranges": content["ranges"] | {"input": wrong}}))
        with pytest.raises(UsageError, match="not a calibration cache"):
            read_calibration(path, model, "minmax")
    lacking = {name: both for name, both in content["ranges"].items() if name != "input"}
    path.write_text(json.dumps(content | {"ranges": lacking}))
    with pytest.raises(UsageError, match="lacks the range of tensor input"):
        read_calibration(path, model, "minmax")
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a calibration cache"):
        read_calibration(path, model, "minmax")


def test_a_folder_of_arrays_and_a_folder_of_images_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    arrays, pictures = tmp_path / "arrays", tmp_path / "pictures"
    arrays.mkdir()
    pictures.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        np.save(arrays / f"{number}.npy", (image / np.float32(255)).transpose(2, 0, 1))
        Image.fromarray(image).save(pictures / f"{number}.png")
    (pictures / "notes.txt").write_text("no image")
    for folder in (arrays, pictures):
        batches = list(batches_of(folder, SPECS, 2)())
        assert [len(feeds["input"]) for feeds in batches] == [2, 1]
        np.testing.assert_allclose(batches[1]["input"][0], pixels[2].transpose(2, 0, 1) / 255, rtol=1e-6)


def test_a_folder_is_read_one_batch_at_a_time(tmp_path: Path) -> None:
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", images(1)[0])
    stream = batches_of(tmp_path, SPECS, 1)()
    next(stream)
    (tmp_path / "3.npy").unlink()
    with pytest.raises(UsageError, match=r"3\.npy"):
        list(stream)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_number_of_samples(save: Callable[..., Any], tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    peaks = []
    for count in (1024, 4096):  # 1.8 and 7 MB; a megabyte is unpacked at a time
        save(tmp_path / "x.npz", input=np.tile(images(64), (count // 64, 1, 1, 1)), labels=np.zeros(count))
        batches = batches_of(tmp_path / "x.npz", SPECS, 8)
        assert batches.count == count
        tracemalloc.start()
        assert calibrate(model, batches(), "minmax").samples == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000


@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_are_the_arrays_of_the_file(order: Literal["C", "F"], tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    specs = (InputSpec("b", (3, 2)), InputSpec("a", (), "int64"), InputSpec("c", (2, 2), batched=False))
    a, b, c = rng.integers(0, 9, 5), np.asarray(rng.normal(size=(5, 3, 2)), order=order), rng.normal(size=(2, 2))
    np.savez_compressed(tmp_path / "x.npz", a=a, b=b, c=c)
    stream = list(slices_of(tmp_path / "x.npz", specs, 2))
    assert [len(feeds["a"]) for feeds in stream] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([feeds["a"] for feeds in stream]), a)
    np.testing.assert_array_equal(np.concatenate([feeds["b"] for feeds in stream]), b)
    np.testing.assert_array_equal(stream[1]["c"], c)
    np.save(tmp_path / "b.npy", b)
    (whole,) = slices_of(tmp_path / "b.npy", specs[:1], 9)
    np.testing.assert_array_equal(whole["b"], b)


def cut(path: Path) -> None:
    np.savez(path, input=images(20))
    path.write_bytes(path.read_bytes()[:-40])


def changed(path: Path) -> None:
    np.savez_compressed(path, input=images(20))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def shortened(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (5, 3, 12, 12)})
        file.write(images(3).tobytes())


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "can't be read"),
        (lambda path: path.write_bytes(b""), "not a numpy file"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "not a numpy file"),
        (cut, "not a numpy file"),
        (changed, "not a numpy file"),
        (shortened, "not a numpy file"),
        (lambda path: np.savez(path, input=np.full((2, 3, 12, 12), None)), "not a numpy file of plain arrays"),
        (lambda path: np.savez(path, input=images(0)), r"has shape \(0, 3, 12, 12\)"),
        (lambda path: np.savez(path, input=np.zeros((64, 12, 12))), r"has shape \(64, 12, 12\), expected \(N, 3"),
        (lambda path: np.savez(path, a=images(2), b=images(2)), r"holds no array input \(it holds a, b\)"),
        (
            lambda path: np.savez(path, input=np.append(images(12), [images(1)[0] * np.nan], 0)),
            "NaN, first in sample 12",
        ),
        (lambda path: np.savez(path, input=np.full((2, 3, 12, 12), "a")), "dtype <U1"),
    ],
)
def test_bad_files_are_one_clear_line(write: Callable[..., Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write(path)
    with pytest.raises(UsageError, match=words) as raised:
        list(batches_of(path, SPECS, 5)())
    assert len(str(raised.value).splitlines()) == 1


def spoiled(value: float) -> list[np.ndarray]:
    array = images()
    array[3, 1] = value
    return list(array)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([np.ones((3, 9, 9), np.float32)], "shape"),
        ([np.full(nets.SPEC.shape, "a")], "dtype"),
        (spoiled(np.nan), "NaN"),
        (spoiled(np.inf), "not finite"),
        ([], "no samples"),
        ([np.full(nets.SPEC.shape, 0.5, np.float32)] * 3, "0.5 throughout"),
        ([{"other": images(1)[0]}], "lacks input"),
    ],
)
def test_bad_calibration_data_is_one_clear_line(source: list[dict[str, np.ndarray] | np.ndarray], words: str) -> None:
    model, _ = nets.folded(nets.centred)
    with pytest.raises(UsageError, match=words) as raised:
        calibrate(model, batches_of(source, SPECS)(), "minmax")
    assert len(str(raised.value).splitlines()) == 1


def test_bad_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        batches_of(tmp_path, SPECS)
    (tmp_path / "a.png").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match=r"a\.png: is not an image"):
        list(batches_of(tmp_path, SPECS)())
    with pytest.raises(UsageError, match="reads 2 inputs"):
        batches_of(tmp_path, (*SPECS, InputSpec("other", (2,))))
    (tmp_path / "a.png").unlink()
    np.save(tmp_path / "b.npy", images(1))
    with pytest.raises(UsageError, match=r"b\.npy: array input: has shape \(1, 3, 12, 12\), expected \(3, 12, 12\)"):
        list(batches_of(tmp_path, SPECS)())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranges": []}, "ranges is a list"),
        ({"ranges": {"input": [0, 1e39]}}, r"ranges\['input'\] is not a range of float32"),
        ({"ranges": {"input": [[], 1]}}, r"ranges\['input'\]\[0\] is a list"),
        ({"symmetric": 0}, "symmetric is 0"),
        ({"model": "/etc/passwd"}, "model is '/etc/passwd', and a SHA-256"),
        ({"samples": -1}, "samples is -1"),
        ({"path": "x"}, "unknown field 'path'"),
        ({"format": 1}, "its format is 1"),
        ({"seen": "x"}, "seen is"),
    ],
)
def test_a_field_of_a_cache_that_is_wrong_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    path = tmp_path / "cache.json"
    calibrate(model, batches_of(list(images(4)), SPECS)(), "minmax").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=words):
        read_calibration(path, model, "minmax")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": 1, "format": 1}', "\x00", '{"format": NaN}'])
def test_a_cache_that_is_no_json_is_one_clear_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(content)
    with pytest.raises(UsageError, match="is not a calibration cache") as raised:
        read_calibration(tmp_path / "cache.json", nets.folded(nets.centred)[0], "minmax")
    assert len(str(raised.value).splitlines()) == 1
