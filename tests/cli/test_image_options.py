"""Folders of images on the command line: the same as arrays prepared by hand, told in every report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from normexport import capsule
from normexport.errors import ExitCode
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

MEAN, STD = np.array([0.4, 0.5, 0.6]), np.array([0.25, 0.2, 0.3])
OPTIONS = ("--mean", "0.4,0.5,0.6", "--std", ".25,2e-1,0.3", "--resize", "10", "--crop", "8")
NAMES = ("ant", "bee", "cow", "dog")


def picture(seed: int) -> np.ndarray:
    """(10, 14, 3): its short side is that which is asked for, so that nothing is interpolated."""
    rng = np.random.default_rng(seed)
    made: np.ndarray = np.clip(rng.normal(rng.uniform(60, 190, 3), 40, (10, 14, 3)), 0, 255).astype(np.uint8)
    return made


def by_hand(pixels: np.ndarray) -> np.ndarray:
    sample: np.ndarray = ((pixels[1:9, 3:11] / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
    return sample


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 images, 8 in the folder of each class; and beside it the same prepared by hand, with its labels."""
    folder = tmp_path_factory.mktemp("classes") / "photos"
    samples, labels = [], []
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = picture(100 * label + number)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
            samples.append(by_hand(pixels))
            labels.append(label)
    np.savez(folder.parent / "same.npz", x=np.stack(samples), labels=labels)
    return folder


def told(run: Run, *words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code in (ExitCode.GOOD, ExitCode.FAILED, ExitCode.INCONCLUSIVE), result.output
    known: dict[str, Any] = json.loads(result.stdout)
    return known


def test_evaluate_finds_in_a_folder_what_it_finds_in_arrays(converted: Path, classes: Path, run: Run) -> None:
    model = converted / "model.onnx"
    found = told(run, "evaluate", model, "--data", classes, *OPTIONS)
    expected = told(run, "evaluate", model, "--data", classes.parent / "same.npz")
    assert (found["samples"], found["correct"]) == (32, expected["correct"])
    assert found["data"]["classes"] == list(NAMES)
    assert found["data"]["images"]["resize"] == 10
    assert found["data"]["note"] == ""
    assert expected["data"] is None


def test_the_terminal_says_what_was_done_and_what_nobody_asked_for(converted: Path, classes: Path, run: Run) -> None:
    asked = " ".join(run("evaluate", converted / "model.onnx", "--data", classes, *OPTIONS).stdout.split())
    assert "32 images, short side 10 (bilinear), centre 8x8, RGB, (pixel * 1/255 - [0.4, 0.5, 0.6])" in asked
    assert "classes by folder: 0 ant, 1 bee, 2 cow, 3 dog" in asked
    assert "nothing says" not in asked
    plain = " ".join(run("evaluate", converted / "model.onnx", "--data", classes).stdout.split())
    assert "note: nothing says how the images of" in plain
    assert "values 0 to 1" in plain


def test_parity_judges_on_images_as_on_arrays(made: Path, converted: Path, classes: Path, run: Run) -> None:
    words = ("parity", made / "model.pt2", converted / "model.onnx", "--batches", "1")
    rows = [
        told(run, *words, "--data", data, *options)["outputs"][0]
        for data, options in ((classes, OPTIONS), (classes.parent / "same.npz", ()))
    ]
    assert rows[0]["batch"] == rows[1]["batch"] == "real, batch 16"
    report = told(run, *words, "--data", classes, *OPTIONS)
    assert report["passed"]
    assert report["data"]["images"]["mean"] == [0.4, 0.5, 0.6]


def test_int8_is_calibrated_and_judged_on_images_and_the_capsule_tells(made: Path, classes: Path, run: Run) -> None:
    words = ("convert", made / "model.pt2", "--precision", "int8", "--min-snr", "5", "-o", "out")
    result = run(*words, "--calibration-data", classes, *OPTIONS, "--capsule", "c.npz")
    assert result.exit_code in (ExitCode.GOOD, ExitCode.INCONCLUSIVE), result.output
    report = json.loads(Path("out/report.json").read_text())
    calibration = report["precision"]["calibration"]
    assert calibration["folder"]["images"]["std"] == [0.25, 0.2, 0.3]
    assert calibration["samples"] == 24
    assert report["data"] is None
    assert "calibration data" in result.stdout
    cache = ("--calibration-cache", "ranges.json")
    both = run(*words, "--calibration-data", classes, "--data", classes, *OPTIONS, *cache, "--capsule", "c.npz")
    assert both.exit_code in (ExitCode.GOOD, ExitCode.INCONCLUSIVE), both.output
    report = json.loads(Path("out/report.json").read_text())
    assert report["data"]["classes"] == list(NAMES)
    assert report["precision"]["accuracy"]["output"]
    assert any("short side 10" in note for note in capsule.read(Path("c.npz")).notes)
    # the very range of the data: what is fed is what was made by hand
    low, high = json.loads(Path("ranges.json").read_text())["ranges"]["x"]
    values = np.load(classes.parent / "same.npz")["x"]
    assert low >= values.min() - 0.05 * np.ptp(values)
    assert high <= values.max() + 0.05 * np.ptp(values)


def test_a_fixed_batch_takes_images_and_so_does_a_network_of_nhwc(classes: Path, run: Run) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3).numpy()
    nodes = [
        onnx.helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        onnx.helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(np.array([1, 2]), "axes"), onnx.numpy_helper.from_array(weight.T, "w")]
    for size in (1, 3):
        x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [size, 8, 8, 3])
        y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [size, 4])
        graph = onnx.helper.make_graph(nodes, "means", [x], [y], tensors)
        opset = [onnx.helper.make_opsetid("", 20)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), "fixed.onnx")
        found = told(run, "evaluate", "fixed.onnx", "--data", classes, *OPTIONS)
        samples, labels = (np.load(classes.parent / "same.npz")[name] for name in ("x", "labels"))
        right = (samples.mean((2, 3), dtype=np.float64) @ weight.T.astype(np.float64)).argmax(1) == labels
        in_turn = right.reshape(4, 8).T.reshape(-1)  # one of each class after the other
        assert found["samples"] == 32 // size * size
        assert found["correct"] == in_turn[: found["samples"]].sum()
        assert found["data"]["images"]["layout"] == "NHWC"


def test_the_users_function_prepares_images_everywhere(
    made: Path, converted: Path, classes: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "own_images.py").write_text(
        "import numpy as np\nimport torch\n"
        "def prepare(image):\n"
        "    pixels = torch.from_numpy(np.asarray(image)[1:9, 3:11] / 255)\n"
        f"    moved = (pixels - torch.tensor({MEAN.tolist()})) / torch.tensor({STD.tolist()})\n"
        "    return moved.permute(2, 0, 1).float()\n"
    )
    function = ("--preprocess", "own_images:prepare")
    found = told(run, "evaluate", converted / "model.onnx", "--data", classes, *function)
    expected = told(run, "evaluate", converted / "model.onnx", "--data", classes, *OPTIONS)
    assert found["correct"] == expected["correct"]
    assert found["data"]["images"]["function"] == "own_images:prepare"
    for source in (made / "model.pt2", converted / "model.onnx"):  # with torch in this process, and in a copy of it
        report = told(
            run, "convert", source, "--precision", "int8", "--calibration-data", classes, *function, "-o", "o"
        )
        assert report["precision"]["calibration"]["folder"]["images"]["function"] == "own_images:prepare"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "imagnet"), "--preset imagnet: is not a preset; choose one of unit, imagenet"),
        (("--std", "0"), "--std 0: is 0, and pixels are divided by it"),
        (("--mean", "0.5,0.5"), "is 2 numbers"),
        (("--mean", "0.5,x,0.1"), "--mean 0.5,x,0.1: holds 'x', which is not a number; write it as 0.485,0.456,0.406"),
        (("--mean", "-1"), "holds '-1', which is not a number"),
        (("--mean", ""), "holds '', which is not a number"),
        (("--std", "1/4"), "holds '1/4', which is not a number"),
        (("--scale", "1/0"), "--scale 1/0: is no factor"),
        (("--scale", "nan"), "holds 'nan', which is not a number"),
        (("--scale", "1e999"), "--scale"),
        (("--resize", "256x"), "--resize 256x: is not a size; write it as 224, or 224x320"),
        (("--resize", "8", "--crop", "9"), "--crop 9: is larger than a short side of 8 (--resize)"),
        (("--crop", "9"), "--crop 9: is not what the model reads, 8x8"),
        (("--channels", "grey"), "--channels grey: is 1 channel, and the model reads 3 channels"),
        (("--layout", "NHWC"), "--layout NHWC: means 8 channels of a model that reads 3x8x8"),
        (("--preprocess", "os:getcwd"), "--preprocess os:getcwd: failed on"),
        (("--preprocess", "nowhere_at_all:x"), "--preprocess nowhere_at_all:x: nowhere_at_all can't be imported"),
        (("--preprocess", "os:getcwd", "--mean", "0.5"), "takes the place of the other steps"),
    ],
)
def test_bad_image_options_are_one_line_and_exit_code_2(
    options: tuple[str, ...], words: str, converted: Path, classes: Path, run: Run
) -> None:
    result = run("evaluate", converted / "model.onnx", "--data", classes, *options)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert words in " ".join(result.stderr.split())
    assert len(result.stderr.strip().splitlines()) == 1


def test_options_for_images_are_refused_where_there_are_none(converted: Path, classes: Path, run: Run) -> None:
    for command in (("evaluate", converted / "model.onnx"), ("convert", converted / "model.onnx", "-o", "out")):
        result = run(*command, "--data", classes.parent / "same.npz", "--preset", "imagenet")
        assert result.exit_code == ExitCode.USAGE
        assert "--preset imagenet: is for images, and no folder of images is given; leave it out" in result.stderr
    result = run("convert", converted / "model.onnx", "-o", "out", "--scale", "1")
    assert "--scale: is for images" in result.stderr
    result = run("evaluate", converted / "model.onnx", "--data", classes / "ant", *OPTIONS)
    assert "ant: has no folder for each class; save labels in it, or give --reference" in result.stderr
    result = run("evaluate", converted / "model.onnx", "--data", "nowhere", "--preset", "imagenet")
    assert "nowhere: can't be read" in result.stderr
    assert not Path("out").exists()


def test_more_folders_than_classes_and_broken_images_are_told_before_the_long_part(
    made: Path, converted: Path, run: Run, tmp_path: Path
) -> None:
    for number in range(5):
        (tmp_path / "five" / f"class{number}").mkdir(parents=True)
        Image.fromarray(picture(number)).save(tmp_path / "five" / f"class{number}" / "a.png")
    result = run("evaluate", converted / "model.onnx", "--data", "five", *OPTIONS)
    assert result.exit_code == ExitCode.USAGE
    assert "has 5 classes by folder (the last is class4), and the model has 4" in " ".join(result.stderr.split())
    (tmp_path / "five" / "class3" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run("convert", made / "model.pt2", "--precision", "int8", "--calibration-data", "five", "-o", "out")
    assert result.exit_code == ExitCode.USAGE
    assert "five/class3/b.png: is not an image that can be read" in " ".join(result.stderr.split())


def test_help_lists_the_presets_with_their_sources(run: Run) -> None:
    text = " ".join(run("evaluate", "--help").stdout.split())
    assert "Values of --preset" in text
    assert "timm.data: IMAGENET_INCEPTION_MEAN" in text


def test_scale_is_a_factor_or_what_pixels_are_divided_by(converted: Path, classes: Path, run: Run) -> None:
    scales = [
        told(run, "evaluate", converted / "model.onnx", "--data", classes, "--scale", text)["data"]["images"]["scale"]
        for text in ("1/255", "255", "2/255", "1")
    ]
    assert scales == pytest.approx([1 / 255, 1 / 255, 2 / 255, 1])
