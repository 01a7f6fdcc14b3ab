"""Samples of several sizes, in a folder: evaluated, calibrated on and judged, each size as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

import normexport
from normexport import ConvertConfig, Int8, Preprocess, UsageError, Verdict
from normexport.onnx_export import parse_inputs
from normexport.precision.samples import batches_of

F = onnx.TensorProto.FLOAT
RNG = np.random.default_rng(0)
WEIGHTS = {"w": RNG.normal(size=(5, 3, 3, 3)), "v": RNG.normal(size=(4, 5, 1, 1)), "m": RNG.normal(size=(5, 3))}
SIZES = [(16, 24), (16, 24), (24, 16), (32, 32), (16, 24), (20, 28)] * 8


def network(path: Path, *, maps: bool = True, error: float = 0.0) -> Path:
    """Convolutions; a map of four classes with its ArgMax, or three classes of the whole image."""
    weights = [
        numpy_helper.from_array((array + error * (name == "v")).astype(np.float32), name)
        for name, array in WEIGHTS.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["classes"], axis=1, keepdims=0),
    ]
    ends = [
        helper.make_tensor_value_info("scores", F, ["batch", 4, "h", "w_"]),
        helper.make_tensor_value_info("classes", onnx.TensorProto.INT64, ["batch", "h", "w_"]),
    ]
    if not maps:
        nodes[2:] = [
            helper.make_node("GlobalAveragePool", ["b"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "m"], ["logits"]),
        ]
        ends = [helper.make_tensor_value_info("logits", F, ["batch", 3])]
    image = helper.make_tensor_value_info("image", F, ["batch", 3, "h", "w_"])
    graph = helper.make_graph(nodes, "g", [image], ends, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def samples(
    folder: Path, sizes: Sequence[tuple[int, int]] = SIZES, labels: np.ndarray | None = None
) -> list[np.ndarray]:
    folder.mkdir()
    rng = np.random.default_rng(1)
    found = [rng.normal(size=(3, *size)).astype(np.float32) for size in sizes]
    for index, sample in enumerate(found):
        np.save(folder / f"{index:03}.npy", sample)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    return found


def decided(path: Path, images: Sequence[np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(path)
    return np.array([session.run(["logits"], {"image": image[None]})[0].argmax() for image in images])


def test_accuracy_over_several_sizes_is_that_of_each_sample_by_itself(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", maps=False)
    images = samples(tmp_path / "data")
    labels = decided(model, images)
    labels[::6] = (labels[::6] + 1) % 3
    np.save(tmp_path / "data" / "labels.npy", labels)
    found = normexport.evaluate(model, tmp_path / "data")
    assert found.samples == len(images)
    assert found.correct == len(images) - len(labels[::6])


def test_maps_of_several_sizes_are_held_against_a_reference_by_position(tmp_path: Path) -> None:
    model, other = network(tmp_path / "m.onnx"), network(tmp_path / "o.onnx", error=0.05)
    images = samples(tmp_path / "data")
    same = normexport.evaluate(model, tmp_path / "data", model)
    assert same.judgement is not None
    assert same.judgement.verdict is Verdict.PASSED
    found = normexport.evaluate(other, tmp_path / "data", model)
    right, wrong = ort.InferenceSession(model), ort.InferenceSession(other)
    exact, close, agree = [], [], []
    for image in images:
        (a, first), (b, second) = (each.run(None, {"image": image[None]}) for each in (right, wrong))
        exact.append(np.moveaxis(a, 1, -1).reshape(-1, 4).astype(float))
        close.append(np.moveaxis(b, 1, -1).reshape(-1, 4).astype(float))
        agree.append((first == second).ravel())
    r, v = np.concatenate(exact), np.concatenate(close)
    snr = 10 * np.log10(((r - r.mean(0)) ** 2).sum() / ((v - r) ** 2).sum())
    scores, classes = found.outputs
    assert scores.snr_db == pytest.approx(snr, abs=1e-3)
    assert classes.agreement == pytest.approx(np.concatenate(agree).mean(), abs=1e-6)


def test_int8_is_calibrated_and_judged_on_several_sizes(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    samples(tmp_path / "data")
    config = ConvertConfig(precision=Int8(calibration=tmp_path / "data", min_snr=20))
    done = normexport.convert(model, tmp_path / "out", ["image=3xHxW", "H=16..32", "W=16..32"], config)
    assert done.precision is not None
    assert done.precision.judgement.verdict is Verdict.PASSED
    assert any("judged on 12 of 48 samples" in note for note in done.precision.notes)
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx")
    assert session.run(["scores"], {"image": np.zeros((1, 3, 17, 29), np.float32)})[0].shape == (1, 4, 17, 29)
    wrong = normexport.evaluate(network(tmp_path / "o.onnx", error=0.8), tmp_path / "data", model)
    assert wrong.judgement is not None
    assert wrong.judgement.verdict is Verdict.FAILED


def test_data_of_several_sizes_part_into_those_that_calibrate_and_those_that_judge(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", maps=False)
    images = samples(tmp_path / "data")
    np.save(tmp_path / "data" / "labels.npy", decided(model, images))
    config = ConvertConfig(data=tmp_path / "data", precision=Int8(min_snr=20, max_drop=20))
    done = normexport.convert(model, tmp_path / "out", (), config)
    assert done.judgement.verdict is Verdict.PASSED
    assert done.precision is not None
    assert done.precision.accuracy is not None
    assert done.precision.accuracy.samples == 12
    assert done.precision.accuracy.correct is not None


def test_images_keep_their_own_size_or_get_the_next_that_the_network_takes(tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(20, 30), (9, 33), (100, 16)]):
        pixels = RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    free = parse_inputs(["image=3xHxW"])
    stream = batches_of(tmp_path, free)
    assert [feeds["image"].shape[1:] for feeds in stream()] == [(3, 20, 30), (3, 9, 33), (3, 100, 16)]
    stepped = parse_inputs(["image=3xHxW", "H=16..64:8", "W=16..64:8"])
    assert [feeds["image"].shape for feeds in batches_of(tmp_path, stepped)()] == [(2, 3, 16, 32), (1, 3, 64, 16)]
    assert [feeds["image"].shape for feeds in batches_of(tmp_path, parse_inputs(["image=3x8x8"]))()] == [(3, 3, 8, 8)]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["image=3x16x24"], r"has shape \(3, 24, 16\), expected \(3, 16, 24\)"),
        (["image=3xHxW", "H=8..20"], r"has shape \(3, 24, 16\), expected \(3, H, W\), H 8 to 20"),
    ],
)
def test_sizes_that_the_network_does_not_take_are_told_by_file(inputs: list[str], said: str, tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    samples(tmp_path / "data")
    with pytest.raises(UsageError, match=said) as refused:
        normexport.evaluate(model, tmp_path / "data", model, inputs)
    assert "002.npy" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_network_of_one_sample_at_a_time_takes_several_sizes(tmp_path: Path) -> None:
    model = onnx.load(network(tmp_path / "m.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    images = samples(tmp_path / "data")
    for index, image in enumerate(images):
        np.save(tmp_path / "data" / f"{index:03}.npy", image[None])
    found = normexport.evaluate(tmp_path / "one.onnx", tmp_path / "data", tmp_path / "one.onnx")
    assert found.judgement is not None
    assert found.judgement.verdict is Verdict.PASSED


def test_classes_of_images_are_judged_each_at_its_size_prepared_as_asked(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", maps=False)
    pictures = [RNG.integers(0, 256, (9 + 4 * index, 30 - index, 3)).astype(np.uint8) for index in range(12)]
    prepared = [((pixels / 255 - 0.5) / 0.25).astype(np.float32).transpose(2, 0, 1) for pixels in pictures]
    classes = decided(model, prepared)
    for name in "abc":
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(pictures[0]).save(tmp_path / "data" / name / "z.png")
    for index, (pixels, number) in enumerate(zip(pictures[1:], classes[1:], strict=True)):
        Image.fromarray(pixels).save(tmp_path / "data" / "abc"[number] / f"{index:02}.png")
    asked = Preprocess(mean=(0.5,), std=(0.25,))
    found = normexport.evaluate(model, tmp_path / "data", preprocess=asked)
    assert found.samples == 14
    assert found.correct == 12  # one picture is in all three classes
    assert found.data is not None
    assert "where open the image's own or next to it" in found.data.words
    cropped = normexport.evaluate(model, tmp_path / "data", model, preprocess=Preprocess(crop=(9, 16)))
    assert cropped.data is not None
    assert "centre 9x16" in cropped.data.words


def test_sequences_of_several_lengths_are_held_against_a_reference_step_by_step(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(RNG.normal(size=(4, 3, 3)).astype(np.float32), "w")
    ends = [helper.make_tensor_value_info(name, F, ["batch", size, "length"]) for name, size in (("x", 3), ("y", 4))]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    (tmp_path / "data").mkdir()
    for index, length in enumerate([7, 30, 30, 12]):
        np.save(tmp_path / "data" / f"{index}.npy", RNG.normal(size=(3, length)).astype(np.float32))
    found = normexport.evaluate(tmp_path / "m.onnx", tmp_path / "data", tmp_path / "m.onnx")
    assert found.samples == 4
    assert found.judgement is not None
    assert found.judgement.verdict is Verdict.PASSED
    report = normexport.parity(tmp_path / "m.onnx", tmp_path / "m.onnx", data=tmp_path / "data")
    assert report.judgement.verdict is Verdict.PASSED


def test_maps_of_labels_do_not_fit_maps_of_several_sizes(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    samples(tmp_path / "data", labels=np.zeros((48, 16, 24), int))
    with pytest.raises(UsageError, match="labels: fit no output"):
        normexport.evaluate(model, tmp_path / "data")


def test_a_module_is_told_which_sizes_are_open(tmp_path: Path) -> None:
    samples(tmp_path / "data", SIZES[:4])
    net = torch.nn.Conv2d(3, 4, 3).eval()
    with pytest.raises(
        UsageError, match=r"shapes \(3, 16, 24\) and \(3, 24, 16\), and nothing says which .* --input 3xHxW"
    ):
        normexport.evaluate(net, tmp_path / "data", net)
    found = normexport.evaluate(net, tmp_path / "data", net, ["3xHxW"])
    assert found.samples == 4
    assert found.judgement is not None
    assert found.judgement.verdict is Verdict.PASSED


def test_too_few_labels_are_told(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", maps=False)
    samples(tmp_path / "data", labels=np.zeros(7, int))
    with pytest.raises(UsageError, match="are 7, the samples 48"):
        normexport.evaluate(model, tmp_path / "data")
