"""Exported programs: loaded without code of their author, norms found in state and graph."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import load
from tests.checkpoint import layouts
from tests.checkpoint.support import IMAGES, Payload, exported, l1_trained, refused


def test_program_loads_whatever_its_suffix(tmp_path: Path) -> None:
    net = l1_trained()
    checkpoint = load(exported(tmp_path / "m.pt2", net).rename(tmp_path / "m.bin"))
    assert (checkpoint.source, checkpoint.model) == ("program", None)
    assert [(record.path, record.kind, record.dialect) for record in checkpoint.norms] == [("1", "l1", "normexport")]
    torch.testing.assert_close(checkpoint.program.module()(IMAGES), net(IMAGES))


def test_program_with_dynamic_shapes_loads(tmp_path: Path) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    net = l1_trained()
    program = load(exported(tmp_path / "m.pt2", net, dynamic_shapes=shapes)).program
    torch.testing.assert_close(program.module()(IMAGES[:2, :, :5]), net(IMAGES[:2, :, :5]))


def test_program_records_live_statistics_and_batch_norm(tmp_path: Path) -> None:
    net = nn.Sequential(nxnn.TopKInstanceNorm2d(3), nn.BatchNorm2d(3), layouts.ConvNetL1(3)).eval()
    records = {record.path: record for record in load(exported(tmp_path / "m.pt2", net)).norms}
    assert (records["0"].kind, records["0"].statistics, records["0"].channels) == ("topk", "instance", 3)
    assert (records["1"].kind, records["1"].dialect) == ("batchnorm", "batchnorm")
    assert records["2"].dialect == "convnet-lp", "a program carries its arithmetic: nothing to ask"


def test_nan_in_a_program_is_refused(tmp_path: Path) -> None:
    net: Any = l1_trained()
    net[1].running_scale[2] = float("nan")
    assert refused(exported(tmp_path / "m.pt2", net)).startswith("1: running_scale is NaN in channel 2")


def tampered(path: Path, change: Callable[..., Any]) -> Path:
    """The program's archive with `change(name, data)` applied to every record."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(out.getvalue())
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"torch.ops.aten.conv2d.default"', '"torch.hub.load"', "the operator 'torch.hub.load'"),
        ("Symbol('s", "__import__('os').system('s", "the size"),
        ('"guards_code": [', "\"guards_code\": [\"__import__('os').system('x')\", ", "the guard"),
        ('"guards_code": [', '"guards_code": ["exec(chr(49))", ', "the guard"),
    ],
)
def test_program_that_names_code_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    """torch.export.load resolves operators by name, evaluates sizes and compiles guards."""
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO},)
    file = exported(tmp_path / "m.pt2", l1_trained(), dynamic_shapes=shapes)

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("model.json"):
            return data
        assert old in data.decode()
        return data.decode().replace(old, new, 1).encode()

    message = refused(tampered(file, change))
    assert f"would run code to be opened: {words}" in message


def test_program_with_a_malicious_sample_input_does_nothing(tmp_path: Path) -> None:
    """PyTorch's own reader falls back to full unpickling there."""
    target = tmp_path / "created"
    buffer = io.BytesIO()
    torch.save(Payload(target), buffer)
    file = exported(tmp_path / "m.pt2", l1_trained())
    tampered(file, lambda name, data: buffer.getvalue() if name.endswith("sample_inputs/model.pt") else data)
    assert "would run code to be opened: the pickle data/sample_inputs/model.pt" in refused(file)
    assert not target.exists()


def test_program_with_a_pickled_weight_is_refused(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return data
        config = json.loads(data)
        config["config"]["0.weight"]["use_pickle"] = True
        return json.dumps(config).encode()

    message = refused(tampered(exported(tmp_path / "m.pt2", l1_trained()), change))
    assert "would run code to be opened: the pickled constant 0.weight" in message
