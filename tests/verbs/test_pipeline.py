"""The verbs as a Python user meets them: what they write, what they refuse, what they leave behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import normexport
from normexport import nn as nxn
from normexport.io.atomic import staging
from normexport.onnx_export import read_sidecar

pytestmark = pytest.mark.slow


class Net(nn.Sequential):
    """Foldable, lowered and live norms in one small network."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nxn.L1BatchNorm2d(4),
            nn.ReLU(),
            nxn.LinfBatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding=1),
            nxn.RangeBatchNorm2d(4, track_running_stats=False),
            nn.Flatten(),
            nn.Linear(4 * 36, 5),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints that differ in one channel's shift, and one export of the first."""
    path = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    model = Net().train()
    for _ in range(5):
        model(torch.randn(8, 3, 6, 6) * 2 + 1)
    torch.save(model.eval(), path / "net.pt")
    norm: Any = model[1]
    with torch.no_grad():
        norm.bias[2] += 1e-2
    torch.save(model, path / "other.pt")
    return path


def load(path: Path) -> normexport.Checkpoint:
    return normexport.load(path, trust=True)


@pytest.fixture(scope="module")
def conversion(folder: Path) -> normexport.Conversion:
    return normexport.convert(lambda: load(folder / "net.pt"), folder / "out", ["3x6x6"])


def test_convert_writes_files_that_tell_one_story(conversion: normexport.Conversion, folder: Path) -> None:
    assert [file.name for file in conversion.files] == ["model.onnx", "model.layers.json", "report.json", "report.html"]
    assert sorted(file.name for file in (folder / "out").iterdir()) == sorted(file.name for file in conversion.files)
    assert conversion.passed
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["passed"] is True
    assert [(o["path"], o["fate"]) for o in report["outcomes"]] == [("1", "folded"), ("3", "lowered"), ("5", "live")]
    assert [name for name, _ in conversion.seconds] == ["load", "export", "fold", "write", "parity"]
    assert conversion.operators.before["RunningNorm"] == 2
    assert "RunningNorm" not in conversion.operators.after


def test_sidecar_names_tensors_and_the_norms_inside(conversion: normexport.Conversion, folder: Path) -> None:
    rows = json.loads((folder / "out" / "model.layers.json").read_text())["layers"]
    by_path = {row["path"]: row for row in rows}
    assert by_path["0"]["tensor"] is None  # the convolution's own output is folded away
    assert by_path["0"]["holds"] == ["1"]
    names = {name for node in onnx.load(folder / "out" / "model.onnx").graph.node for name in node.output}
    for layer in read_sidecar(folder / "out" / "model.layers.json"):
        assert layer.tensor in names


def test_no_fold_keeps_norms_as_operators_with_bodies_and_passes(folder: Path, tmp_path: Path) -> None:
    config = normexport.ConvertConfig(fold=False, batches=(1, 3))
    conversion = normexport.convert(load(folder / "net.pt"), tmp_path, ["3x6x6"], config)
    assert conversion.passed
    assert conversion.outcomes == ()
    model = onnx.load(tmp_path / "model.onnx")
    assert {f.name for f in model.functions} == {"RunningNorm", "RangeBatchNorm"}


def test_check_tells_a_shifted_channel_from_rounding_on_every_pair_of_sides(
    conversion: normexport.Conversion, folder: Path
) -> None:
    onnx_file = folder / "out" / "model.onnx"
    exported = normexport.export(load(folder / "net.pt"), ["3x6x6"], folder / "plain.onnx")
    assert exported.layers
    for reference in (load(folder / "net.pt"), onnx_file, folder / "plain.onnx"):
        for candidate in (load(folder / "net.pt"), onnx_file, folder / "plain.onnx"):
            assert normexport.check(reference, candidate, ["3x6x6"]).passed, (reference, candidate)
        assert not normexport.check(reference, load(folder / "other.pt"), ["3x6x6"]).passed
    assert not normexport.check(load(folder / "other.pt"), onnx_file, ["3x6x6"]).passed


def test_check_by_layers_names_the_module_that_diverges_first(conversion: normexport.Conversion, folder: Path) -> None:
    report = normexport.check(load(folder / "other.pt"), folder / "out" / "model.onnx", layers=True)
    assert report.first_divergence.path == "1"
    same = normexport.check(folder / "out" / "model.onnx", folder / "out" / "model.onnx", layers=True)
    assert same.passed
    assert len(same.layers) > 5


def test_check_pairs_the_inputs_of_a_program_and_a_file_by_position(folder: Path, tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.load(folder / "net.pt", weights_only=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.net(image)

    model = Named().eval()
    program = torch.export.export(model, (torch.zeros(2, 3, 6, 6),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "named.pt2")
    normexport.export(model, ["3x6x6"], tmp_path / "named.onnx")
    assert [i.name for i in onnx.load(tmp_path / "named.onnx").graph.input] == ["image"]
    assert normexport.check(tmp_path / "named.pt2", tmp_path / "named.onnx", layers=True).passed
    assert normexport.check(tmp_path / "named.onnx", tmp_path / "named.pt2").passed


class Difference(nn.Module):
    """Not symmetric: swapped inputs give another result."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 4, 1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.net(left) - 2 * self.net(right)


def test_check_binds_named_inputs_by_name_whatever_their_order(tmp_path: Path) -> None:
    torch.save(Difference().eval(), tmp_path / "d.pt")
    exported = normexport.export(load(tmp_path / "d.pt"), ["right=3x4x4", "left=3x4x4"], tmp_path / "d.onnx")
    assert [spec.name for spec in exported.inputs] == ["left", "right"]
    # The same file with its inputs listed the other way round computes the same.
    swapped = onnx.load(tmp_path / "d.onnx")
    left, right = swapped.graph.input
    del swapped.graph.input[:]
    swapped.graph.input.extend([right, left])
    onnx.save(swapped, tmp_path / "swapped.onnx")
    named = ["right=3x4x4", "left=3x4x4"]
    for file in ("d.onnx", "swapped.onnx", "d.pt"):
        candidate = load(tmp_path / file) if file.endswith(".pt") else tmp_path / file
        assert normexport.check(load(tmp_path / "d.pt"), candidate, named).passed, file
    assert normexport.check(load(tmp_path / "d.pt"), tmp_path / "swapped.onnx").passed


def test_metadata_that_can_not_be_read_is_no_module_path(
    conversion: normexport.Conversion, folder: Path, tmp_path: Path
) -> None:
    model = onnx.load(folder / "out" / "model.onnx")
    for node in model.graph.node:
        del node.metadata_props[:]
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['unclosed")
    onnx.save(model, tmp_path / "odd.onnx")
    assert normexport.check(folder / "out" / "model.onnx", tmp_path / "odd.onnx", layers=True).passed
    assert normexport.check(tmp_path / "odd.onnx", tmp_path / "odd.onnx", layers=True).passed
    assert normexport.fold(tmp_path / "odd.onnx").outcomes[0].path == ""


def test_a_module_in_memory_is_converted_as_its_file_is(
    conversion: normexport.Conversion, folder: Path, tmp_path: Path
) -> None:
    model = torch.load(folder / "net.pt", weights_only=False).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = normexport.convert(model, tmp_path / "out", ["3x6x6"])
    assert done.passed
    assert conversion.passed
    assert (done.path, done.source) == (Path("Net"), "module")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    image = np.random.default_rng(3).normal(size=(2, 3, 6, 6)).astype(np.float32)
    session, other = (
        onnxruntime.InferenceSession(file) for file in (tmp_path / "out" / "model.onnx", folder / "out" / "model.onnx")
    )
    ours, theirs = (each.run(None, {each.get_inputs()[0].name: image})[0] for each in (session, other))
    np.testing.assert_array_equal(ours, theirs)
    assert normexport.parity(model, tmp_path / "out" / "model.onnx", ["3x6x6"]).passed
    assert [norm.kind for norm in normexport.inspect(model).norms] == ["l1", "linf", "range"]


def test_an_exported_program_in_memory_is_converted(folder: Path, tmp_path: Path) -> None:
    model = torch.load(folder / "net.pt", weights_only=False)
    program = torch.export.export(model, (torch.zeros(2, 3, 6, 6),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    done = normexport.convert(program, tmp_path / "out")
    assert done.passed
    assert done.source == "program"


def test_what_is_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(normexport.UsageError, match="int: is no network; give a path"):
        normexport.convert(3, tmp_path / "out", ["3x6x6"])  # type: ignore[arg-type]  # what the message is for


def test_outputs_that_are_links_are_written_through_and_devices_refused(
    conversion: normexport.Conversion, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    normexport.fold(folder / "out" / "model.onnx", tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "real.onnx").read_bytes() == (folder / "out" / "model.onnx").read_bytes()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place in ("folder", "pipe"):
        with pytest.raises(normexport.UsageError, match="not a regular file"):
            normexport.fold(folder / "out" / "model.onnx", tmp_path / place)
    with pytest.raises(normexport.UsageError, match="not a regular file"):
        normexport.fold(tmp_path / "pipe")


def test_inspect_tells_what_would_fold_only_where_the_graph_is_known(
    conversion: normexport.Conversion, folder: Path
) -> None:
    assert normexport.inspect(load(folder / "net.pt")).outcomes is None
    fates = [outcome.fate for outcome in normexport.inspect(load(folder / "net.pt"), ["3x6x6"]).outcomes]
    assert fates == ["folded", "lowered", "live"]
    again = normexport.inspect(folder / "out" / "model.onnx")
    assert again.source == "onnx"
    assert [outcome.fate for outcome in again.outcomes] == ["lowered", "live"]


def test_fold_of_a_file_it_cannot_improve_copies_its_bytes(
    conversion: normexport.Conversion, folder: Path, tmp_path: Path
) -> None:
    source = folder / "out" / "model.onnx"
    result = normexport.fold(source, tmp_path / "same.onnx")
    assert not result.changed
    assert (tmp_path / "same.onnx").read_bytes() == source.read_bytes()
    normexport.fold(tmp_path / "same.onnx", tmp_path / "same.onnx")  # onto itself
    assert (tmp_path / "same.onnx").read_bytes() == source.read_bytes()


def test_real_data_of_the_wrong_shape_stops_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", input=np.zeros((4, 3, 5, 5), np.float32))
    config = normexport.ConvertConfig(data=tmp_path / "data.npz")
    with pytest.raises(normexport.UsageError, match=r"has shape \(4, 3, 5, 5\), expected \(N, 3, 6, 6\)"):
        normexport.convert(load(folder / "net.pt"), tmp_path / "new" / "out", ["3x6x6"], config)
    assert not (tmp_path / "new").exists()


def test_staging_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staging(tmp_path / "a" / "b") as inside:
            (inside / "half.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with staging(tmp_path / "a") as inside:
        (inside / "whole.txt").write_text("whole")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["whole.txt"]
