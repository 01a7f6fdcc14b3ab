"""Folding any model that the onnx package ships for testing backends leaves its results as they are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from normexport.folding import fold
from tests.folding import backend_models
from tests.folding.backend_models import Shipped
from tests.folding.claims import same_proto

pytestmark = pytest.mark.slow

CHUNKS = 8
# ONNX Runtime 1.32 runs 1,548 of onnx 1.23's 1,884 operator models (190 or more per chunk) and 100 of its 140
# stored ones; older pairs of versions have and run a few less.
NODE_FLOOR_PER_CHUNK = 150
FILE_FLOOR = 90


@cache
def node_models() -> list[Shipped]:
    return backend_models.node_models()


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # refused models are expected, and counted
    options.intra_op_num_threads = 1
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def outputs_of(model: onnx.ModelProto, inputs: Iterable[Any]) -> list[Any]:
    engine = session(model)
    return engine.run(None, dict(zip([i.name for i in engine.get_inputs()], inputs, strict=False)))


def runnable(shipped: Shipped) -> list[list[Any]] | None:
    """The outputs before folding, None where ONNX Runtime can't run the model on its data."""
    try:
        return [outputs_of(shipped.model, inputs) for inputs, _ in shipped.data_sets]
    except Exception:  # ONNX Runtime raises a dozen unrelated types for what it does not support
        return None


def same(got: Any, expected: Any, rtol: float, atol: float) -> bool:
    """Equal values (NaN equals NaN) of equal types, within the tolerance if there is one."""
    if isinstance(expected, (list, tuple)):
        pairs = zip(got, expected, strict=True)
        return len(got) == len(expected) and all(same(g, e, rtol, atol) for g, e in pairs)
    if not isinstance(expected, np.ndarray):
        return bool(got == expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if expected.dtype.kind in "fc":
        return bool(np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True))
    return np.array_equal(got, expected)


def is_random(shipped: Shipped, before: list[list[Any]]) -> bool:
    """Whether the model draws random numbers: two runs differ."""
    return not same([outputs_of(shipped.model, inputs) for inputs, _ in shipped.data_sets], before, 0, 0)


def check(shipped: Shipped) -> bool:
    """Assert that folding keeps the results; False where there is nothing to run."""
    before = runnable(shipped)
    if not before:
        return False
    original = ir.from_proto(shipped.model)
    result = fold(original)
    after = ir.to_proto(result.model)
    if not result.changed:
        assert same_proto(after, ir.to_proto(original)), shipped.name
    rtol, atol = (shipped.rtol, shipped.atol) if result.changed else (0.0, 0.0)
    for (inputs, shipped_outputs), expected in zip(shipped.data_sets, before, strict=True):
        got = outputs_of(after, inputs)
        assert same(got, expected, rtol, atol) or is_random(shipped, before), shipped.name
        if same(expected, shipped_outputs, shipped.rtol, shipped.atol):
            assert same(got, shipped_outputs, 2 * shipped.rtol, 2 * shipped.atol), shipped.name
    return True


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_operator_models_keep_their_results(chunk: int) -> None:
    ran = sum(check(shipped) for shipped in node_models()[chunk::CHUNKS])
    assert ran >= NODE_FLOOR_PER_CHUNK


def test_stored_models_keep_their_results() -> None:
    assert sum(check(shipped) for shipped in backend_models.file_models()) >= FILE_FLOOR


@pytest.mark.parametrize("path", backend_models.light_paths(), ids=lambda path: path.stem)
def test_published_networks_keep_their_results(path: Path) -> None:
    assert check(backend_models.light_model(path))


def test_the_published_networks_are_there() -> None:
    assert len(backend_models.light_paths()) >= 9


# In a DenseNet-121 the norms that read a concatenation which other layers read too can't move: one per dense
# layer (58), three in transitions and the last, 62 of 121. In the others every norm follows its own convolution.
@pytest.mark.parametrize(
    ("network", "norms", "left"),
    [("resnet50", 53, 0), ("shufflenet", 49, 0), ("inception_v2", 69, 0), ("densenet121", 121, 62)],
)
def test_published_networks_with_stored_weights_fold(network: str, norms: int, left: int) -> None:
    path = next(path for path in backend_models.light_paths() if path.stem == f"light_{network}")
    shipped = backend_models.with_stored_weights(backend_models.light_model(path))
    assert count(shipped.model) == norms
    result = fold(ir.from_proto(shipped.model))
    after = ir.to_proto(result.model)
    assert count(after) == left
    # Scales behind the norms go with them: whatever Mul remained would be one that nothing took in.
    assert count(after, "Mul") == 0
    inputs, _ = shipped.data_sets[0]
    expected, got = outputs_of(shipped.model, inputs)[0], outputs_of(after, inputs)[0]
    assert np.ptp(expected) > 0
    assert np.abs(got - expected).max() <= shipped.rtol * np.abs(expected).max()


def count(model: onnx.ModelProto, op: str = "BatchNormalization") -> int:
    """How many nodes of an operator the graph has."""
    return sum(node.op_type == op for node in model.graph.node)
