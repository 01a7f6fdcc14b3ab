"""Whether requests may share a batch: told by what the network computes, not by its operators' names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport
from normexport.bundle.assemble import assemble
from normexport.bundle.batching import batching_of
from normexport.bundle.content import ServedPort
from normexport.engine import Manifest
from normexport.engine.manifest import FileId, PlanTensor
from normexport.nn import L1BatchNorm2d, L1InstanceNorm2d
from normexport.onnx_export import BatchRange, InputSpec
from normexport.proof import standard_batches
from normexport.runtime.torch_runtime import TorchRuntime
from tests.bundle.test_hostile_names import content

pytestmark = pytest.mark.slow


class OverBatch(nn.Module):
    """Takes what all samples of a batch have in common off each of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class Softmaxed(nn.Module):
    """Scores over the batch instead of over the classes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).softmax(0)


class Cumulated(nn.Module):
    """The first sample alone is answered right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).cumsum(0)


def batching(model: nn.Module, spec: InputSpec, manifest: Manifest | None = None) -> Any:
    runtime = TorchRuntime(model.eval(), (spec,), ["y"], "float64")
    sizes = None if spec.batched else ()
    with torch.no_grad():
        rank = model(torch.zeros(spec.sized(2) if spec.batched else spec.shape)).ndim
    batch = (None,) if sizes is None else (2,)
    ports = (ServedPort(spec.name, "float32", (*batch, *spec.shape)),), (ServedPort("y", "float32", (*batch,) * rank),)
    return batching_of(runtime, standard_batches((spec,)), (spec,), ports, manifest)


SPEC = InputSpec("x", (3, 6, 6))


@pytest.mark.parametrize(
    "model", [nn.Identity(), nn.Conv2d(3, 4, 3), L1BatchNorm2d(3), L1InstanceNorm2d(3), nn.LayerNorm(6)]
)
def test_rows_that_are_the_same_alone_may_share_a_batch(model: nn.Module) -> None:
    told = batching(model, SPEC)
    assert (told.most, told.reason) == (32, "")


@pytest.mark.parametrize(
    "model",
    [
        *(L1BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3, track_running_stats=False)),
        *(OverBatch(), Softmaxed(), Cumulated()),
    ],
)
def test_rows_that_depend_on_others_may_not(model: nn.Module) -> None:
    told = batching(model, SPEC)
    assert told.most == 0
    assert "depends on the others in its batch" in told.reason


def test_the_batch_stays_within_what_the_network_takes() -> None:
    assert batching(nn.Identity(), replace(SPEC, batch=BatchRange(1, 8))).most == 8
    assert batching(nn.Identity(), replace(SPEC, batch=BatchRange(2, 8))).most == 0
    assert batching(nn.Identity(), SPEC.fixed(2)).most == 0


def plan(*profiles: tuple[int, int, int]) -> Manifest:
    """A manifest as a build of enterprise TensorRT writes it, with these batches in its profiles."""
    shapes = [tuple((size, 3, 6, 6) for size in profile) for profile in profiles]
    least, usual, most = shapes[0]
    more = tuple((small, middle, large) for small, middle, large in shapes[1:])
    tensor = PlanTensor("x", "float32", (-1, 3, 6, 6), least, usual, most, more)
    file = FileId("model.plan", 4, "0" * 64)
    return Manifest(
        *(file, file, None, False, False, "0.2.0", "tensorrt", "10.13.0.35", ("sm90",)),
        *((tensor,), (PlanTensor("y", "float32", (-1, 3, 6, 6)),), {}, (), (), ()),
    )


@pytest.mark.parametrize(
    ("profiles", "most", "usual"),
    [
        ([(1, 4, 16)], 16, 4),
        ([(1, 1, 1), (2, 8, 64)], 64, 8),
        ([(1, 2, 4), (1, 8, 64)], 64, 8),
        ([(1, 2, 4), (8, 8, 64)], 4, 4),
        ([(4, 4, 4)], 0, 0),
        ([(1, 1, 1)], 0, 0),
    ],
)
def test_the_batch_stays_within_the_profiles_of_the_plan(
    profiles: list[tuple[int, int, int]], most: int, usual: int
) -> None:
    told = batching(nn.Identity(), SPEC, plan(*profiles))
    assert (told.most, told.usual) == (most, usual), told


def test_a_plan_is_served_by_tensorrt_with_its_profiles(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    (tmp_path / "model.plan").write_bytes(b"plan")
    library = tmp_path / "libnormexport_tensorrt.so"
    library.write_bytes(b"library")
    base = content(tmp_path, "x", "label")
    served = replace(
        base,
        manifest=plan((1, 4, 16), (1, 8, 32)),
        files={"model.plan": tmp_path / "model.plan", library.name: library},
        batching=replace(base.batching, most=32, usual=4),
    )
    files = assemble("triton", served)
    text = files["models/net/config.pbtxt"]
    assert isinstance(text, bytes)
    config = text_format.Parse(text.decode(), model_config_pb2.ModelConfig())
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert {"models/net/1/model.plan", f"plugins/{library.name}"} <= set(files)
    record = files["model.bundle.json"]
    assert isinstance(record, bytes)
    assert f'"plugins/{library.name}"' in record.decode()
    assert '"version": "10.13.0.35"' in record.decode()


def test_a_network_with_live_batch_norms_is_bundled_without_batching(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), L1BatchNorm2d(4, track_running_stats=False), nn.ReLU()).eval()
    config = normexport.ConvertConfig(bundle="triton")
    normexport.convert(model, tmp_path, ["3x6x6"], config)
    (path,) = tmp_path.rglob("config.pbtxt")
    text = path.read_text()
    assert "dynamic_batching" not in text
    assert "max_batch_size: " not in text
    assert "are not put into one batch" in (tmp_path / "triton" / "README.md").read_text()
