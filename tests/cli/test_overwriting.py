"""No command writes over what it reads, however the two paths are spelled: one line that names both, exit code 2."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from typer.testing import Result

import normexport
from normexport.errors import ExitCode, UsageError
from normexport.io.overwriting import check_outputs
from tests.cli.conftest import Run

needs_tensorrt = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: normexport[rtx]"
)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result: Result, folder: Path, before: dict[Path, bytes], *names: str) -> str:
    """The one line, nothing touched."""
    assert result.exit_code == ExitCode.USAGE, result.output
    (line,) = result.stderr.splitlines()
    for name in names:
        assert name in line
    assert contents(folder) == before
    return line


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """original.onnx, whose weights lie where torch puts those of model.onnx; its norm can be folded."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.random((8, 4, 3, 3)), **{name: rng.random(8) + 0.5 for name in ("scale", "b", "mean", "var")}}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "b", "mean", "var"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 4, 4])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "original.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


def test_fold_does_not_write_its_data_over_that_of_its_source(split: Path, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path)
    result = run("fold", split, "-o", tmp_path / "model.onnx")
    refused(
        result, tmp_path, before, "model.onnx.data: would become the data of model.onnx", "the data of original.onnx"
    )


@pytest.mark.parametrize("link", ["symbolic", "hard", "folder", "spelled"])
def test_fold_sees_through_other_names_of_what_it_reads(split: Path, run: Run, tmp_path: Path, link: str) -> None:
    data, output = tmp_path / "model.onnx.data", tmp_path / "out.onnx"
    if link == "symbolic":
        output.symlink_to(data)
    elif link == "hard":  # with a second name the data itself is not read; the model is
        shutil.copy(split, tmp_path / "single.onnx")
        os.link(split, output)
        data = split
    elif link == "folder":
        (tmp_path / "same").symlink_to(tmp_path)
        output = tmp_path / "same" / data.name
    else:
        output = tmp_path / ".." / tmp_path.name / data.name
    before = contents(tmp_path)
    refused(run("fold", split, "-o", output), tmp_path, before, str(data), output.name)


def test_fold_of_a_model_in_memory_does_not_write_over_its_data_either(split: Path, tmp_path: Path) -> None:
    from normexport.io.onnx_model import open_onnx

    before = contents(tmp_path)
    for output in ("model.onnx.data", "model.onnx"):
        with pytest.raises(UsageError, match="the data of the model to fold"):
            normexport.fold(open_onnx(split), tmp_path / output)
    assert contents(tmp_path) == before


def test_fold_in_place_replaces_the_model_and_keeps_its_numbers(split: Path, run: Run, tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((2, 4, 6, 6)).astype(np.float32)
    expected = evaluated(split, x)
    result = run("fold", split, "-o", split)
    assert result.exit_code == ExitCode.GOOD, result.stderr
    (tmp_path / "model.onnx.data").unlink()  # what is written stands alone
    np.testing.assert_allclose(evaluated(split, x), expected, rtol=1e-5)
    assert [node.op_type for node in onnx.load(split).graph.node] == ["Conv"]


def evaluated(path: Path, x: np.ndarray) -> np.ndarray:
    (found,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("name", ["model.onnx", "model.layers.json", "report.json", "model.onnx.data"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_convert_writes_over_nothing_that_it_reads(made: Path, run: Run, tmp_path: Path, name: str, link: str) -> None:
    """The checkpoint lies in the folder that is written to, under the name of an output."""
    (tmp_path / "out").mkdir()
    shutil.copy(made / "model.pt2", tmp_path / "model.pt2")
    getattr(tmp_path / "out" / name, link)(tmp_path / "model.pt2")
    before = contents(tmp_path)
    refused(run("convert", "model.pt2", "-o", "out"), tmp_path, before, f"out/{name}: ", "the checkpoint, model.pt2")


def test_convert_writes_over_neither_data_nor_calibration_data(made: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    np.savez(tmp_path / "out" / "data.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    (tmp_path / "out" / "data.npz").rename(tmp_path / "out" / "report.json")
    before = contents(tmp_path)
    result = run("convert", made / "model.pt2", "-o", "out", "--data", "out/report.json")
    refused(result, tmp_path, before, "out/report.json: would become the report, and is the data")
    np.save(tmp_path / "out" / "sample.npy", np.zeros((3, 8, 8), np.float32))
    before = contents(tmp_path)
    words = ("--precision", "int8", "--calibration-data")
    result = run("convert", made / "model.pt2", "-o", "out", *words, "out")
    refused(result, tmp_path, before, "out/report.json: would become the report, and is in the calibration data")


@pytest.mark.parametrize("spelled", ["out/report.json", "./out/../out/report.json"])
def test_two_outputs_are_never_one_file(made: Path, run: Run, tmp_path: Path, spelled: str) -> None:
    words = ("--precision", "int8", "--calibration-data", "x.npz", "--calibration-cache", spelled)
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 1)))
    before = contents(tmp_path)
    result = run("convert", made / "model.pt2", "-o", "out", *words)
    line = refused(result, tmp_path, before, "would be both the report and the calibration cache")
    assert "report.json" in line


@pytest.mark.parametrize("output", ["model.pt2", "link.onnx", "factory.py"])
def test_export_writes_over_neither_checkpoint_nor_code(
    made: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    shutil.copy(made / "model.pt2", tmp_path / "model.pt2")
    (tmp_path / "link.onnx").symlink_to("model.pt2")
    words: tuple[str, ...] = ("model.pt2",)
    if output == "factory.py":
        shutil.copy(made / "weights.pth", tmp_path / "weights.pth")
        (tmp_path / "factory.py").write_text("from tests.cli.small_nets import Small\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr("sys.dont_write_bytecode", True)
        words = ("weights.pth", "--model", "factory:Small", "--input", "3x8x8")
    before = contents(tmp_path)
    known = "the code of factory" if output == "factory.py" else "the checkpoint"
    refused(run("export", *words, "-o", output), tmp_path, before, f"{output}: would become the model", known)


@pytest.mark.parametrize("output", ["in.npz", "model.plan", "model.plan.json", "library.so"])
def test_run_writes_over_nothing_that_it_reads(run: Run, tmp_path: Path, output: str) -> None:
    for name in ("in.npz", "model.plan", "model.plan.json", "library.so"):
        (tmp_path / name).write_bytes(name.encode())
    before = contents(tmp_path)
    words = ("--inputs", "in.npz", "--plugin-library", "library.so")
    refused(run("run", "model.plan", *words, "-o", output), tmp_path, before, f"{output}: would become the outputs")


@needs_tensorrt
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-o", "original.onnx"), "would become the plan, and is the model"),
        (("-o", "model.onnx.data"), "would become the plan, and is the data of original.onnx"),
        (("-o", "m.plan", "--log", "model.onnx.data"), "would become the log, and is the data of original.onnx"),
        (("-o", "m.plan", "--log", "original.onnx"), "would become the log, and is the model"),
        (("-o", "m.plan", "--timing-cache", "original.onnx"), "would become the timing cache, and is the model"),
        (("-o", "m.plan", "--log", "m.plan.json"), "would be both its manifest and the log"),
        (("-o", "m.plan", "--log", "library.so", "--plugin-library", "library.so"), "and is the plugin library"),
    ],
)
def test_build_writes_over_nothing_that_it_reads(
    split: Path, run: Run, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    (tmp_path / "library.so").write_bytes(b"library")
    before = contents(tmp_path)
    refused(run("build", "original.onnx", "--target", "sm89", *words), tmp_path, before, named)


def test_another_case_of_letters_is_seen_where_the_file_system_does_not_tell_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Model.onnx").write_bytes(b"model")
    monkeypatch.setattr(os.path, "exists", lambda path: Path(path).name.lower() == "model.onnx")
    monkeypatch.setattr(os.path, "samefile", lambda *paths: len({Path(path).name.lower() for path in paths}) == 1)
    with pytest.raises(UsageError, match=r"MODEL\.onnx: would become the copy, and is the model, .*Model\.onnx"):
        check_outputs([(tmp_path / "MODEL.onnx", "the copy")], [(tmp_path / "Model.onnx", "the model")])


def test_a_sum_of_states_is_not_written_over_one_of_them(run: Run, tmp_path: Path) -> None:
    from normexport.precision.int8.state import CalibrationState

    for name in ("a.json", "b.json"):
        CalibrationState("0" * 64, "ONNX Runtime 1", 8).save(tmp_path / name)
    (tmp_path / "x").mkdir()
    before = contents(tmp_path)
    words = ["calibrate", "merge", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "-o"]
    refused(run(*words, str(tmp_path / "x" / ".." / "b.json")), tmp_path, before, "b.json")
    assert "is not a folder" in refused(run(*words, str(tmp_path / "a.json" / "c.json")), tmp_path, before)
