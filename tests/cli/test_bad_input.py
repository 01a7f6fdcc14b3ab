"""Every bad input gets one line that names the place, its exit code, and nothing is written."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normexport.errors import ExitCode
from tests.cli import small_nets
from tests.cli.conftest import FACTORY, Run, altered_state, onnx_reading_outside, save_plain

pytestmark = pytest.mark.slow

#: Each makes the bad input in a folder and gives the command line, the exit code and words of the message.
Maker = Callable[[Path, Path], "Case"]
CASES: list[Maker] = []


def bad(make: Maker) -> Maker:
    """Register a maker of a bad call: (folder of good checkpoints, empty folder) -> Case."""
    CASES.append(make)
    return make


USAGE, CHECKPOINT, REFUSED = ExitCode.USAGE, ExitCode.CHECKPOINT, ExitCode.REFUSED


@dataclass(frozen=True)
class Case:
    """`words` end in -o out; `place` must stand in the line."""

    words: tuple[object, ...]
    place: str
    code: ExitCode


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def with_factory(path: Path, factory: str = FACTORY, shape: str = small_nets.SHAPE) -> tuple[object, ...]:
    return ("convert", path, "--model", factory, "--input", shape)


@bad
def truncated_program(made: Path, folder: Path) -> Case:
    path = folder / "cut.pt2"
    path.write_bytes((made / "model.pt2").read_bytes()[:4000])
    return Case(("convert", path), "cut.pt2", CHECKPOINT)


@bad
def truncated_state(made: Path, folder: Path) -> Case:
    path = folder / "cut.pth"
    path.write_bytes((made / "weights.pth").read_bytes()[:2000])
    return Case(with_factory(path), "cut.pth", CHECKPOINT)


@bad
def pickle_with_code(made: Path, folder: Path) -> Case:
    torch.save({"state_dict": {"w": torch.ones(2)}, "extra": Payload(folder / "owned")}, folder / "evil.pth")
    return Case(with_factory(folder / "evil.pth"), "evil.pth", CHECKPOINT)


@bad
def bare_pickle_with_code(made: Path, folder: Path) -> Case:
    (folder / "evil.pkl").write_bytes(pickle.dumps(Payload(folder / "owned")))
    return Case(("inspect", folder / "evil.pkl"), "evil.pkl", CHECKPOINT)


@bad
def module_of_unknown_class(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "module.pt", "--input", small_nets.SHAPE), "module.pt", CHECKPOINT)


@bad
def not_a_checkpoint(made: Path, folder: Path) -> Case:
    (folder / "notes.pt").write_text("nothing of the kind")
    return Case(("convert", folder / "notes.pt"), "notes.pt", CHECKPOINT)


@bad
def no_such_file(made: Path, folder: Path) -> Case:
    return Case(("convert", folder / "absent.pt2"), "absent.pt2", USAGE)


@bad
def no_such_onnx_file(made: Path, folder: Path) -> Case:
    return Case(("fold", folder / "absent.onnx"), "absent.onnx", USAGE)


@bad
def factory_of_no_module(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", "no_such_package.nets:Small"), "no_such_package.nets:Small", USAGE)


@bad
def factory_of_no_name(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", "tests.cli.small_nets:Smal"), "tests.cli.small_nets:Smal", USAGE)


@bad
def factory_without_colon(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", "tests.cli.small_nets"), "--model tests.cli.small_nets", USAGE)


@bad
def factory_that_makes_no_model(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", "tests.cli.small_nets:number"), "tests.cli.small_nets:number", USAGE)


@bad
def factory_that_fails(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", "tests.cli.small_nets:failing"), "no such variant", USAGE)


@bad
def weights_without_code(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "weights.pth"), "--model", USAGE)


@bad
def missing_key(made: Path, folder: Path) -> Case:
    return Case(with_factory(altered_state(made, folder / "short.pth", head__weight=None)), "head.weight", CHECKPOINT)


@bad
def extra_key(made: Path, folder: Path) -> Case:
    path = altered_state(made, folder / "long.pth", tail__weight=torch.ones(3))
    return Case(with_factory(path), "tail.weight", CHECKPOINT)


@bad
def wrong_size(made: Path, folder: Path) -> Case:
    return Case((*with_factory(made / "weights.pth"), "--model-kwargs", '{"classes": 9}'), "head.weight", CHECKPOINT)


@bad
def nan_statistics(made: Path, folder: Path) -> Case:
    stat = torch.tensor([1.0, 1.0, float("nan"), 1.0, 1.0, 1.0])
    path = altered_state(made, folder / "diverged.pth", norm__running_scale=stat)
    return Case(with_factory(path), "channel 2", CHECKPOINT)


@bad
def unknown_dialect(made: Path, folder: Path) -> Case:
    return Case((*with_factory(made / "weights.pth"), "--dialect", "klingon"), "--dialect klingon", USAGE)


@bad
def contradicting_dialect(made: Path, folder: Path) -> Case:
    return Case((*with_factory(made / "weights.pth"), "--dialect", "elektronn3"), "--dialect elektronn3", CHECKPOINT)


@bad
def wrong_input_shape(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", shape="5x8x8"), "[2, 5, 8, 8]", USAGE)


@bad
def input_unlike_the_program(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "model.pt2", "--input", "5x8x8"), "--input", USAGE)


@bad
def input_that_is_no_shape(made: Path, folder: Path) -> Case:
    return Case(with_factory(made / "weights.pth", shape="3,8,8"), "--input 3,8,8", USAGE)


@bad
def no_input(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "weights.pth", "--model", FACTORY), "--input", USAGE)


@bad
def more_than_all_elements(made: Path, folder: Path) -> Case:
    torch.save(small_nets.greedy(), folder / "greedy.pt")
    return Case(("convert", folder / "greedy.pt", "--input", small_nets.SHAPE), "1000 largest of the 36", USAGE)


@bad
def kwargs_that_are_no_json(made: Path, folder: Path) -> Case:
    return Case((*with_factory(made / "weights.pth"), "--model-kwargs", "{classes: 4}"), "--model-kwargs", USAGE)


@bad
def kwargs_that_are_no_object(made: Path, folder: Path) -> Case:
    return Case((*with_factory(made / "weights.pth"), "--model-kwargs", "[4]"), "--model-kwargs", USAGE)


@bad
def kwargs_without_a_factory(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "model.pt2", "--model-kwargs", "{}"), "--model-kwargs", USAGE)


@bad
def absent_data(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "model.pt2", "--data", folder / "absent.npz"), "absent.npz", USAGE)


@bad
def data_of_another_shape(made: Path, folder: Path) -> Case:
    np.savez(folder / "images.npz", x=np.ones((2, 3, 9, 9), np.float32))
    return Case(("convert", made / "model.pt2", "--data", folder / "images.npz"), "images.npz", USAGE)


@bad
def onnx_outside_its_folder(made: Path, folder: Path) -> Case:
    return Case(("fold", onnx_reading_outside(folder / "sub" / "m.onnx")), "../secret.bin", REFUSED)


@bad
def damaged_onnx(made: Path, folder: Path) -> Case:
    (folder / "m.onnx").write_bytes(b"\x08\x0a\x12\xff\xff")
    return Case(("fold", folder / "m.onnx"), "m.onnx", REFUSED)


@bad
def checkpoint_given_to_fold(made: Path, folder: Path) -> Case:
    return Case(("fold", made / "model.pt2"), "model.pt2", REFUSED)


@bad
def onnx_given_to_convert(made: Path, folder: Path) -> Case:
    (folder / "m.bin").write_bytes(b"\x08\x0a\x12\x07pytorch")
    return Case(("convert", folder / "m.bin"), "name it .onnx", CHECKPOINT)


@bad
def broken_onnx_given_to_convert(made: Path, folder: Path) -> Case:
    (folder / "m.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    return Case(("convert", folder / "m.onnx"), "m.onnx", REFUSED)


@bad
def factory_given_for_an_onnx_file(made: Path, folder: Path) -> Case:
    save_plain(folder / "m.onnx")
    return Case(("convert", folder / "m.onnx", "--model", FACTORY), "--model", USAGE)


@bad
def dialect_given_for_an_onnx_file(made: Path, folder: Path) -> Case:
    save_plain(folder / "m.onnx")
    return Case(("convert", folder / "m.onnx", "--dialect", "lp-norm"), "--dialect", USAGE)


@bad
def trust_given_for_an_onnx_file(made: Path, folder: Path) -> Case:
    save_plain(folder / "m.onnx")
    return Case(("convert", folder / "m.onnx", "--trust"), "--trust", USAGE)


@bad
def shape_given_to_inspect_an_onnx_file(made: Path, folder: Path) -> Case:
    save_plain(folder / "m.onnx")
    return Case(("inspect", folder / "m.onnx", "--input", "3x8x8"), "--input", USAGE)


@bad
def weights_under_given_with_a_checkpoint(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "model.pt2", "--weights-under", folder), "--weights-under", USAGE)


@bad
def unknown_option(made: Path, folder: Path) -> Case:
    return Case(("convert", made / "model.pt2", "--fast"), "--fast", USAGE)


@bad
def unknown_command(made: Path, folder: Path) -> Case:
    return Case(("convret", made / "model.pt2"), "convert", USAGE)


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A bad call and the folder of its files."""
    folder = tmp_path_factory.mktemp("bad")
    return request.param(made, folder), folder


def test_bad_input_gets_one_line_its_exit_code_and_nothing_written(
    case: tuple[Case, Path], run: Run, tmp_path: Path
) -> None:
    call, folder = case
    before = contents(folder)
    words = call.words if call.words[0] == "inspect" else (*call.words, "-o", tmp_path / "out")
    result = run(*words)
    assert result.exit_code == call.code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert call.place in line
    assert "Traceback" not in line
    assert contents(tmp_path) == set()
    assert contents(folder) == before


def test_json_errors_are_one_object_with_the_same_exit_code(case: tuple[Case, Path], run: Run, tmp_path: Path) -> None:
    call, _ = case
    words = call.words if call.words[0] == "inspect" else (*call.words, "-o", tmp_path / "out")
    result = run(*words, "--json")
    assert result.exit_code == call.code
    assert result.stderr == ""
    error = json.loads(result.stdout)["error"]
    assert error["exit_code"] == call.code
    assert set(error) == {"place", "cause", "remedy", "exit_code"}
    assert call.place in " ".join(str(value) for value in error.values())


@pytest.mark.parametrize("command", ["convert", "export"])
def test_an_output_below_a_regular_file_is_refused(command: str, made: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = run(command, made / "model.pt2", "-o", tmp_path / "file" / "out.onnx")
    assert result.exit_code == ExitCode.USAGE
    (line,) = result.stderr.splitlines()
    assert "file" in line
    assert "can't be written" in line
    assert contents(tmp_path) == {"file"}


def test_fold_refuses_an_output_below_a_regular_file(converted: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = run("fold", converted / "model.onnx", "-o", tmp_path / "file" / "out.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "can't be written" in result.stderr
    assert contents(tmp_path) == {"file"}


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
