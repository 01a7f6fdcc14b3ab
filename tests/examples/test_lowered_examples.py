"""Trained networks of every family in float16 and int8 classify the test images as they do in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest

from examples import data, index
from normexport import onnx_export
from normexport.checkpoint import load
from normexport.folding import fold
from normexport.onnx_export import InputSpec, parse_inputs
from normexport.precision import Half, Int8, Judged, reduce_precision
from normexport.verbs.fold import FOLDING
from tests.narrow import present

pytestmark = pytest.mark.slow

# One of each network and kind; benchmarks/precision_examples.py measures all 21.
FILES = (
    "plain_topk.pt2",
    "plain_l1_instance.pt2",
    "residual_linf.pt2",
    "mixed_range.pt2",
    "bounded_l1.pt",
    "preact_l1.pt2",
)


#: The entry of the index, the inputs, the folded network.
Folded = tuple[dict[str, Any], tuple[InputSpec, ...], ir.Model]


@pytest.fixture(scope="module", params=FILES)
def folded(request: pytest.FixtureRequest) -> Folded:
    entry = index.read()[request.param]
    keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    checkpoint = load(index.CHECKPOINTS / request.param, **keywords)
    exported = onnx_export.export(checkpoint, parse_inputs([entry["input"]]) if entry["input"] else ())
    return entry, exported.inputs, fold(exported.model, FOLDING).model


@pytest.fixture(scope="module")
def images() -> tuple[data.Images, data.Images]:
    return data.load()


@pytest.mark.parametrize(
    ("config", "drop", "snr"),
    [
        (lambda samples: Half(), 0.1, 55),
        (lambda samples: Int8(samples, batch=64), 0.5, 25),
        (lambda samples: Int8(samples, batch=64, symmetric=True), 0.5, 24),
    ],
    ids=["float16", "int8", "int8-symmetric"],
)
def test_accuracy_holds_with_nothing_left_out(
    config: Callable[..., Any], drop: float, snr: int, folded: Folded, images: tuple[data.Images, data.Images]
) -> None:
    entry, inputs, model = folded
    train, test = images
    judged = Judged({inputs[0].name: test.input}, test.labels)
    reduced = reduce_precision(model, config(list(train.input[:512])), inputs, judged=judged)
    accuracy = reduced.precision.accuracy
    assert reduced.precision.passed
    assert reduced.precision.kept == ()
    assert accuracy.correct >= entry["correct"] - 10 * drop - 1e-9  # of 1,000: ten images are a point
    assert present(accuracy.snr_db) >= snr
    if "instance" in str(entry["kind"]) and isinstance(config([]), Int8):
        assert [each.reason for each in reduced.precision.norms] == [""] * 3
        assert sum(node.op_type == "QL1InstanceNorm" for node in reduced.model.graph) == 3
