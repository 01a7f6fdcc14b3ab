"""Containers of weights on the command line: a folder converted, the choice among networks, misuse in one line."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

from normexport.errors import ExitCode
from tests.checkpoint.weight_files import write_safetensors, write_shards
from tests.cli import small_nets
from tests.cli.conftest import FACTORY, Run

pytestmark = pytest.mark.slow

NETWORK = ("--model", FACTORY, "--input", small_nets.SHAPE)


def test_a_folder_of_shards_is_converted_into_a_folder_beside_it_and_proven(tmp_path: Path, run: Run) -> None:
    index = write_shards(tmp_path / "net.v1", small_nets.trained().state_dict(), write_safetensors, "safetensors")
    before = {path.name: path.read_bytes() for path in index.parent.iterdir()}
    result = run("convert", "net.v1", *NETWORK, "--batches", "1,2")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert "PASSED" in result.stdout
    assert {path.name: path.read_bytes() for path in index.parent.iterdir()} == before
    onnx.checker.check_model(tmp_path / "net.v1-onnx" / "model.onnx", full_check=True)
    report = json.loads((tmp_path / "net.v1-onnx" / "report.json").read_text())
    assert "weights are in model.safetensors.index.json" in report["notes"]
    result = run("convert", f"net.v1/{index.name}", *NETWORK, "--batches", "1", "--no-fold")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert (tmp_path / "model" / "model.onnx").exists()


def test_what_was_left_out_is_in_the_inspection_and_in_the_report(tmp_path: Path, run: Run) -> None:
    state = {f"model.{name}": value for name, value in small_nets.trained().state_dict().items()}
    state["criterion.weight"] = torch.ones(4)
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 0.5}, "epoch": 1}, tmp_path / "run.ckpt")
    told = ["left out, as it is not under model.: criterion.weight", "hyper_parameters of the file: lr=0.5"]
    assert all(words in " ".join(run("inspect", "run.ckpt", *NETWORK).stdout.split()) for words in told)
    assert run("convert", "run.ckpt", *NETWORK, "--batches", "1", "-o", "out").exit_code == ExitCode.GOOD
    assert set(told) <= set(json.loads((tmp_path / "out" / "report.json").read_text())["notes"])


def test_of_two_networks_the_named_one_is_taken(tmp_path: Path, run: Run) -> None:
    state = small_nets.trained().state_dict()
    scaled = {name: value * 2 if name == "head.weight" else value for name, value in state.items()}
    torch.save({"model": state, "ema": {f"net.{name}": value for name, value in scaled.items()}}, tmp_path / "two.pt")
    result = run("convert", "two.pt", *NETWORK, "-o", "out")
    assert (result.exit_code, result.stdout) == (ExitCode.CHECKPOINT, "")
    assert result.stderr.startswith(
        "error: two.pt: holds several networks (model, ema); choose with --weights model or"
    )
    assert not (tmp_path / "out").exists()
    for options, factor in ((("--weights", "model"), 1), (("--weights", "ema", "--prefix", "net."), 2)):
        assert run("export", "two.pt", *NETWORK, *options, "-o", "m.onnx").exit_code == ExitCode.GOOD
        weights = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load("m.onnx").graph.initializer}
        assert abs(weights["head.weight"] - factor * state["head.weight"].numpy()).max() == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--weights", "emma"),
        ("--prefix", "nothing."),
        ("--ignore-keys", "nothing."),
    ],
)
def test_an_option_that_names_nothing_is_one_line_of_usage(tmp_path: Path, run: Run, words: tuple[str, str]) -> None:
    torch.save(small_nets.trained().state_dict(), tmp_path / "weights.pth")
    result = run("inspect", "weights.pth", *words)
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert result.stderr.startswith(f"error: {' '.join(words)}: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--weights", "--prefix", "--ignore-keys"])
def test_options_for_checkpoints_mean_nothing_for_onnx_files(tmp_path: Path, run: Run, option: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    result = run("inspect", "model.onnx", option, "x")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == f"error: {option}: means nothing here: it is for a checkpoint; leave it out\n"
