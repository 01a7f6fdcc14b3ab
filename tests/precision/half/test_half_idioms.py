"""What PyTorch does not run in a half type is converted, judged and proven all the same; wrong candidates fail."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from normexport.precision import Half
from normexport.precision.half.baseline import HalfParity
from normexport.precision.half.search import Halved, halve
from normexport.precision.reduce import reduce_precision
from tests.precision.half.half_idioms import IDIOMS, exported, network, samples

pytestmark = pytest.mark.slow

#: A mask that is computed: the sum with it stays in float32.
KEPT = {"(1 - mask) * finfo.min", "(1 - mask) * -1e4"}
DTYPES = ["float16", "bfloat16"]


@cache
def converted(name: str, dtype: str) -> tuple[HalfParity, Halved]:
    """(rule, halved) on real inputs beside the random ones."""
    model, _ = exported(name)
    rule = HalfParity(network(name), IDIOMS[name].inputs, dtype, model, samples(name))
    return rule, halve(model, Half(dtype), [batch.feeds for batch in rule.batches], rule.accepts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", IDIOMS)
def test_a_network_with_the_idiom_is_converted_and_passes(name: str, dtype: str) -> None:
    rule, halved = converted(name, dtype)
    report = rule.report(halved, exported(name)[1])
    assert report.passed, report.worst
    assert all(row.candidate.rms < 3 * row.baseline.rms for row in report.outputs), "the budget is no larger than that"
    onnx.checker.check_model(ir.to_proto(halved.model), full_check=True)
    assert ir.DataType[dtype.upper()] in {value.dtype for node in halved.model.graph for value in node.outputs}
    assert name in KEPT or halved.kept == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", IDIOMS)
def test_a_channel_with_a_wrong_sign_fails(name: str, dtype: str) -> None:
    rule, halved = converted(name, dtype)
    wrong = halved.model.clone()
    weight = [
        each for each in wrong.graph.initializers.values() if each.const_value.dtype == ir.DataType[dtype.upper()]
    ]
    largest = max(weight, key=lambda each: each.const_value.size)
    array = np.array(largest.const_value.numpy())
    array.reshape(array.shape[0], -1)[0] *= -1
    largest.const_value = ir.Tensor(array, name=largest.name)
    assert not rule.accepts(replace(halved, model=wrong))


def test_pytorch_itself_does_not_run_the_idioms_in_half_precision() -> None:
    with pytest.raises(RuntimeError):
        network(".float() before Linear").half()(torch.zeros(1, 6, 16).half())


@pytest.mark.parametrize("name", ["time steps", "rotary positions"])
def test_time_steps_and_positions_are_not_rounded(name: str) -> None:
    rule, halved = converted(name, "bfloat16")
    assert {node.inputs[0].dtype for node in halved.model.graph if node.op_type in ("Sin", "Cos")} == {
        ir.DataType.FLOAT
    }
    assert max(row.baseline.relative_rms for row in rule.report(halved).outputs) < 0.02


def test_without_a_torch_model_the_same_rule_holds() -> None:
    model, _ = exported("masked_fill(-1e9)")
    reduced = reduce_precision(model, Half(), IDIOMS["masked_fill(-1e9)"].inputs)
    assert reduced.precision.passed
    assert reduced.parity.reference == "float64 interpreter"
    assert reduced.parity.baseline == "float64 interpreter, rounded to float16"
    (note,) = reduced.precision.notes
    assert "-1e+09" in note
    assert "-32752" in note
