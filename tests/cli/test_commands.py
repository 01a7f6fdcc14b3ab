"""What the commands print and write when all is well, and where the exit codes come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from normexport.checkpoint import dialects
from normexport.errors import ExitCode
from normexport.norms import KINDS
from tests.cli import small_nets
from tests.cli.conftest import FACTORY, Run

pytestmark = pytest.mark.slow

COMMANDS = ["inspect", "convert", "export", "fold", "parity"]


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, flag: str, run: Run) -> None:
    result = run(command, flag)
    assert result.exit_code == ExitCode.GOOD
    assert f"normexport {command} " in result.stdout
    assert "--json" in result.stdout


def test_help_lists_commands_and_exit_codes(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == ExitCode.GOOD
    assert all(command in result.stdout for command in COMMANDS)
    assert "3 checkpoint not understood" in " ".join(result.stdout.split())


def test_dialects_lists_every_dialect_and_kind_of_the_registries(run: Run) -> None:
    text = run("dialects").stdout
    assert all(name in text for name in (*dialects(), *KINDS))


def test_bare_call_prints_help_and_is_a_usage_error(run: Run) -> None:
    result = run()
    assert result.exit_code == ExitCode.USAGE
    assert "Commands" in result.stdout


def test_version_names_the_packages_that_matter(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.startswith("normexport ")
    assert "torch 2." in result.stdout


def test_convert_writes_three_files_and_ends_with_the_verdict(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("convert", made / "model.pt2", "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert result.stdout.splitlines()[-1] == "PARITY PASSED"
    assert result.stderr == ""
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"model.onnx", "model.layers.json", "report.json", "report.html"}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["passed"] is True
    assert "RunningNorm" not in operators(tmp_path / "out" / "model.onnx")


def test_convert_prints_the_fate_of_each_norm(made: Path, run: Run) -> None:
    lines = run("convert", made / "model.pt2", "-o", "out").stdout.splitlines()
    (folded,) = [line.split() for line in lines if line.startswith("norm ") and "folded" in line]
    (stays,) = [line.split() for line in lines if line.startswith("pre ")]
    assert folded[:4] == ["norm", "l1", "6", "folded"]
    assert stays[:4] == ["pre", "topk", "6", "lowered"]


def test_convert_goes_to_a_folder_named_after_the_checkpoint(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("convert", made / "weights.pth", "--model", FACTORY, "--input", small_nets.SHAPE)
    assert result.exit_code == ExitCode.GOOD
    assert (tmp_path / "weights" / "model.onnx").exists()


def test_no_fold_keeps_the_norms_as_operators(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("convert", made / "model.pt2", "--no-fold", "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert operators(tmp_path / "out" / "model.onnx").count("RunningNorm") == 2


def test_trust_loads_a_pickled_module_of_the_users_own_class(made: Path, run: Run) -> None:
    result = run("convert", made / "module.pt", "--input", small_nets.SHAPE, "--trust", "-o", "out")
    assert result.exit_code == ExitCode.GOOD


def test_data_adds_a_real_batch(made: Path, run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32))
    result = run("convert", made / "model.pt2", "--data", "images.npz", "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert "real, batch 5" in result.stdout


def test_convert_json_is_the_report_and_nothing_else(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("convert", made / "model.pt2", "-o", "out", "--json")
    assert result.exit_code == ExitCode.GOOD
    assert result.stderr == ""
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(each["path"], each["fate"]) for each in printed["outcomes"]] == [("norm", "folded"), ("pre", "lowered")]


def test_inspect_shows_what_would_fold(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("inspect", made / "weights.pth", "--model", FACTORY, "--input", small_nets.SHAPE)
    assert result.exit_code == ExitCode.GOOD
    assert "healthy in every norm" in result.stdout
    assert "scaled into Conv" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_inspect_of_bare_weights_names_the_norms_and_what_is_missing(made: Path, run: Run) -> None:
    result = run("inspect", made / "weights.pth")
    assert result.exit_code == ExitCode.GOOD
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith(("norm  ", "pre "))] == [
        "kind",
        "l1",
        "topk",
    ]
    assert "--model" in result.stdout


def test_inspect_json_parses(made: Path, run: Run) -> None:
    norms = json.loads(run("inspect", made / "weights.pth", "--json").stdout)["norms"]
    assert [(norm["path"], norm["kind"], norm["channels"]) for norm in norms] == [("norm", "l1", 6), ("pre", "topk", 6)]


def test_export_keeps_norms_and_writes_the_layer_map(made: Path, run: Run, tmp_path: Path) -> None:
    result = run("export", made / "model.pt2", "-o", "model.onnx", "--json")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    printed = json.loads(result.stdout)
    assert printed["files"] == ["model.onnx", "model.layers.json"]
    assert {layer["path"] for layer in printed["layers"]} >= {"conv", "norm", "head"}
    assert operators(tmp_path / "model.onnx").count("RunningNorm") == 2


def test_fold_of_an_exported_file_folds_what_convert_folds(made: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", made / "model.pt2", "-o", "plain.onnx").exit_code == ExitCode.GOOD
    result = run("fold", "plain.onnx", "-o", "folded.onnx")
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.splitlines()[-1] == "FOLDED  1 of 2, 1 lowered"
    assert "RunningNorm" not in operators(tmp_path / "folded.onnx")


def test_fold_of_a_folded_file_says_so_and_copies_every_byte(converted: Path, run: Run, tmp_path: Path) -> None:
    result = run("fold", converted / "model.onnx", "-o", "again.onnx")
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.splitlines()[-1].startswith("UNCHANGED")
    assert (tmp_path / "again.onnx").read_bytes() == (converted / "model.onnx").read_bytes()


def test_fold_json_parses(converted: Path, run: Run) -> None:
    printed = json.loads(run("fold", converted / "model.onnx", "-o", "again.onnx", "--json").stdout)
    assert printed["changed"] is False


def test_parity_of_checkpoint_and_conversion_passes(made: Path, converted: Path, run: Run) -> None:
    result = run("parity", made / "model.pt2", converted / "model.onnx", "--layers")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert result.stdout.splitlines()[-1] == "PARITY PASSED"
    assert [line.split()[0] for line in result.stdout.splitlines() if line.startswith("norm ")] == ["norm"]


def test_parity_of_a_changed_weight_fails_with_exit_code_1_and_names_the_module(
    made: Path, converted: Path, run: Run, tmp_path: Path
) -> None:
    model = onnx.load(converted / "model.onnx")
    for tensor in model.graph.initializer:
        if "head.weight" in tensor.name:
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1.001)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    shutil.copy(converted / "model.layers.json", tmp_path)
    result = run("parity", made / "model.pt2", "model.onnx", "--layers")
    assert result.exit_code == ExitCode.FAILED
    last = result.stdout.splitlines()[-1]
    assert last.startswith("PARITY FAILED  first divergence at head (Linear)")
    assert json.loads(run("parity", made / "model.pt2", "model.onnx", "--json").stdout)["passed"] is False


def test_parity_between_two_onnx_files(made: Path, converted: Path, run: Run) -> None:
    assert run("export", made / "model.pt2", "-o", "plain.onnx").exit_code == ExitCode.GOOD
    assert run("parity", "plain.onnx", converted / "model.onnx", "--json").exit_code == ExitCode.GOOD
