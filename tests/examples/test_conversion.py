"""Every committed checkpoint converts, and what comes out classifies the test images as PyTorch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import normexport
from examples import data, index
from normexport import ConvertConfig
from normexport.engine import EngineConfig, build_engine

pytestmark = pytest.mark.slow

ENTRIES = index.read()
BATCHES = (1, 7, 64)

#: The entry of the index, and what became of it.
Converted = tuple[dict[str, Any], normexport.Conversion]


@pytest.fixture(scope="module")
def test_images() -> data.Images:
    _, test = data.load()
    return test


@pytest.fixture(scope="module", params=ENTRIES)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    entry = ENTRIES[request.param]
    checkpoint = normexport.load(
        index.CHECKPOINTS / request.param,
        model=entry["model"],
        model_kwargs=entry["model_kwargs"],
        dialect=entry["dialect"],
    )
    inputs = [entry["input"]] if entry["input"] else []
    folder = tmp_path_factory.mktemp("converted")
    config = ConvertConfig(data=index.CHECKPOINTS.parent / "digits.npz", batches=BATCHES)
    return entry, normexport.convert(checkpoint, folder, inputs, config)


def test_logits_agree_at_every_batch_size_and_on_real_images(converted: Converted) -> None:
    _, conversion = converted
    assert conversion.passed, conversion.parity.first_divergence
    names = {row.batch for row in conversion.parity.outputs}
    for size in BATCHES:
        assert any(name.startswith("random") and name.endswith(f"batch {size}") for name in names), names
    assert any(name.startswith("real") for name in names), names
    assert len(conversion.parity.layers) >= 5


def test_folded_file_has_the_recorded_test_accuracy(converted: Converted, test_images: data.Images) -> None:
    entry, conversion = converted
    images, labels = test_images
    session = ort.InferenceSession(conversion.files[0], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(None, {name: images[i : i + 100]})[0] for i in range(0, len(images), 100)])
    assert int((logits.argmax(1) == labels).sum()) == entry["correct"]


def test_no_running_norm_is_left_and_every_norm_has_one_fate_in_words(converted: Converted) -> None:
    entry, conversion = converted
    assert "RunningNorm" not in conversion.operators.after
    assert "BoundedWeightNorm" not in conversion.operators.after
    running = [norm for norm in conversion.norms if norm.statistics == "running"]
    outcomes = [outcome for outcome in conversion.outcomes if outcome.kind != "weight"]
    assert len(outcomes) == len(conversion.norms)
    assert len({outcome.path for outcome in outcomes}) == len(outcomes)
    for outcome in conversion.outcomes:
        assert outcome.reason
        assert outcome.path
    assert sum(outcome.fate != "live" for outcome in outcomes) == len(running)
    if entry["network"] in ("plain", "residual") and running:
        assert {outcome.fate for outcome in outcomes} == {"folded"}
    if entry["network"] == "preact":
        assert {outcome.fate for outcome in outcomes} == {"folded", "lowered"}


def test_folded_file_becomes_an_engine_for_three_gpu_generations(converted: Converted, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    _, conversion = converted
    config = EngineConfig(targets=("sm80", "sm89", "sm120"), plugins=False)
    manifest = build_engine(conversion.files[0], tmp_path / "model.plan", config)
    nodes = onnx.load(conversion.files[0]).graph.node
    multiplying = [node for node in nodes if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    assert manifest.precision == {"float32": len(multiplying)}
    live = [node for node in nodes if node.domain == "normexport"]
    assert set(manifest.bodies) == {node.op_type for node in live}
    assert bool(live) == ("instance" in conversion.path.name)
    standard = {node.name for node in nodes if node.domain != "normexport"}
    assert standard <= {layer.onnx for layer in manifest.layers}, "every layer is known by its ONNX node"
