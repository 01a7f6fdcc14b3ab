"""`--metric` in `evaluate` and `convert`: labels that are numbers or maps, limits in their unit, refusals in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 3, 4, 4)).astype(np.float32)
WEIGHT = RNG.normal(size=(5, 3, 1, 1)).astype(np.float32)


def save(path: str, weight: np.ndarray, *, mean: bool) -> None:
    """A convolution of 1x1, (N, 5, 4, 4), or its mean over places, (N, 5)."""
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c" if mean else "y"])]
    if mean:
        nodes += [onnx.helper.make_node("ReduceMean", ["c", "axes"], ["y"], keepdims=0)]
    tensors = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(np.array([2, 3]), "axes")]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 4, 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 5] if mean else ["N", 5, 4, 4])
    graph = onnx.helper.make_graph(nodes, "net", [x], [y], tensors if mean else tensors[:1])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), path)


@pytest.fixture
def nets(run: Run) -> np.ndarray:
    """mean.onnx and map.onnx, worse.onnx in place of mean.onnx, and what map.onnx gives for X."""
    save("mean.onnx", WEIGHT, mean=True)
    save("worse.onnx", WEIGHT * np.float32(1.01), mean=True)
    save("map.onnx", WEIGHT, mean=False)
    made: np.ndarray = np.einsum("nchw,kc->nkhw", X.astype(np.float64), WEIGHT[:, :, 0, 0].astype(np.float64))
    return made


def test_errors_of_regression_are_judged_in_their_unit(nets: np.ndarray, run: Run) -> None:
    labels = nets.mean((2, 3))
    np.savez("data.npz", x=X, labels=labels)
    lost = float(np.abs(0.01 * labels).mean())
    words = ("evaluate", "worse.onnx", "--data", "data.npz", "--reference", "mean.onnx", "--metric", "mae")
    result = run(*words, "--max-drop", f"{lost * 1.1:g}", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == ExitCode.GOOD, result.output
    assert (found["metric"], found["correct"], found["accuracy"]) == ("mae", None, None)
    assert found["value"] == pytest.approx(lost, rel=1e-3)
    assert found["reference_value"] == pytest.approx(0, abs=1e-6)
    result = run(*words, "--max-drop", f"{lost * 0.9:g}")
    assert result.exit_code == ExitCode.FAILED
    assert "y: mae rises by" in " ".join(result.stdout.split())
    result = run(*words)
    assert result.exit_code == ExitCode.USAGE
    assert "--metric mae: has a unit of its own, and nothing says how much it may rise" in result.stderr


def test_maps_of_classes_are_judged_by_iou_without_being_asked(nets: np.ndarray, run: Run) -> None:
    labels = nets.argmax(1)
    labels[0, 0, 0] = 255
    labels[1, 1, 1] = (labels[1, 1, 1] + 1) % 5
    np.savez("data.npz", x=X, labels=labels.astype(np.uint8))
    result = run("evaluate", "map.onnx", "--data", "data.npz")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert "iou 99." in result.stdout
    whole = json.loads(run("evaluate", "map.onnx", "--data", "data.npz", "--metric", "top1", "--json").stdout)
    assert whole["value"] == pytest.approx(1 - 1 / (240 * 16 - 1))


def test_int8_is_held_to_a_metric_and_its_report_says_which(nets: np.ndarray, run: Run, tmp_path: Path) -> None:
    (tmp_path / "own_metrics.py").write_text(
        "import numpy as np\n\ndef median(output, labels):\n    return np.median(np.abs(output - labels))\n\n"
        "median.lower_is_better = True\n"
    )
    np.savez("data.npz", x=X, labels=nets.mean((2, 3)))
    words = ("convert", "mean.onnx", "--precision", "int8", "--data", "data.npz", "-o", "out")
    result = run(*words, "--metric", "own_metrics:median", "--max-drop", "0.5", "--min-snr", "10")
    assert result.exit_code == ExitCode.GOOD, result.output
    accuracy = json.loads(Path("out/report.json").read_text())["precision"]["accuracy"]
    assert accuracy["metric"] == "own_metrics:median"
    assert 0 < accuracy["drop"] <= 0.5
    result = run(*words, "--metric", "rmse")
    assert result.exit_code == ExitCode.USAGE
    assert "--metric rmse: has a unit of its own" in result.stderr
    result = run("convert", "mean.onnx", "--precision", "fp16", "--data", "data.npz", "--metric", "rmse", "-o", "half")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert json.loads(Path("half/report.json").read_text())["precision"]["accuracy"]["metric"] == "rmse"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--metric", "psnr"), "--metric psnr: is not a metric; choose top1, top5, iou, mae, rmse, or package"),
        (("--metric", "os:sep"), "--metric os:sep: is a str, which can't be called"),
        (("--metric", "nowhere_at_all:x"), "nowhere_at_all can't be imported"),
        (("--metric", "math:sqrt"), "--metric math:sqrt: failed on an output (2, 5) and labels"),
        (("--metric", "iou"), "--metric iou: is for classes, and the labels are not whole numbers"),
        ((), "labels: are not whole numbers, and nothing says which metric they are for"),
        (("--metric", "mae", "--max-drop", "nan"), "--max-drop nan: is not a limit"),
    ],
)
def test_bad_metrics_are_one_line_and_exit_code_2(
    words: tuple[str, ...], told: str, nets: np.ndarray, run: Run
) -> None:
    np.savez("data.npz", x=X[:2], labels=nets.mean((2, 3))[:2])
    result = run("evaluate", "mean.onnx", "--data", "data.npz", *words)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert told in " ".join(result.stderr.split())
    assert len(result.stderr.strip().splitlines()) == 1


def test_labels_of_a_wrong_shape_are_told_of_many_samples_too(nets: np.ndarray, run: Run) -> None:
    np.savez("data.npz", x=X, labels=nets.mean((2, 3))[:, :4])
    result = run("evaluate", "mean.onnx", "--data", "data.npz", "--metric", "mae")
    assert result.exit_code == ExitCode.USAGE
    assert "labels: fit no output: y (2, 5); mae needs numbers of the labels' shape (samples, 4)" in result.stderr
    np.savez("none.npz", x=X)
    result = run("evaluate", "mean.onnx", "--data", "none.npz", "--reference", "worse.onnx", "--metric", "mae")
    assert "--metric mae: none.npz holds no labels" in result.stderr
    result = run("convert", "mean.onnx", "--precision", "int8", "--data", "none.npz", "--metric", "top5", "-o", "out")
    assert "--metric top5: there are no labels; give --data with" in " ".join(result.stderr.split())
    result = run("convert", "mean.onnx", "--metric", "top5", "-o", "out")
    assert "--metric: means nothing with --precision fp32" in result.stderr


def test_inputs_without_a_sample_axis_are_evaluated_beside_labels(run: Run) -> None:
    nodes = [onnx.helper.make_node("Mul", ["x", "gain"], ["y"])]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])
    gain = onnx.helper.make_tensor_value_info("gain", onnx.TensorProto.FLOAT, [])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])
    graph = onnx.helper.make_graph(nodes, "net", [x, gain], [y])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), "gain.onnx")
    values = RNG.normal(size=(70, 4)).astype(np.float32)
    labels = values.argmax(1)
    labels[0] = (labels[0] + 1) % 4
    np.savez("data.npz", x=values, gain=np.float32(2), labels=labels)
    result = run("evaluate", "gain.onnx", "--data", "data.npz", "--json")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert json.loads(result.stdout)["correct"] == 69
