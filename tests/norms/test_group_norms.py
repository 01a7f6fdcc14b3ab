"""Group and layer norms: the formula over each sample's groups of channels, worked out by numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.checker
import onnx.helper as helper
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.errors import UsageError
from normexport.norms import Scope
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.norms.witness import normalised
from tests.precision.int8.quantized_nodes import run

pytestmark = pytest.mark.slow

KINDS = sorted(norms.KINDS)
GROUP = Scope.GROUP
#: Shapes, each with a number of groups.
CASES = [
    ((3, 6), 2),
    ((1, 6, 5), 3),
    ((2, 4, 3, 7), 4),
    ((2, 6, 1, 2, 5), 1),
    ((5, 1, 4), 1),
    ((2, 12, 1, 1), 2),
    ((1, 257), 1),
]


def attributes_of(kind: norms.NormKind, n: int) -> dict[str, int]:
    own = {"k": min(3, n), "chunks": 4}
    return {name: own[name] for name in kind.parameters}


def case(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-5, 5, (shape[0], shape[1], *[1] * (len(shape) - 2)))
    return rng.normal(0, 2, shape) + offsets, rng.uniform(-2, 2, shape[1]), rng.uniform(-1, 1, shape[1])


def model_of(op: str, shape: list[int | str], dtype: int, **attributes: Any) -> onnx.ModelProto:
    parameter = onnx.TensorProto.DOUBLE if dtype == onnx.TensorProto.DOUBLE else onnx.TensorProto.FLOAT
    tensor = helper.make_tensor_value_info
    inputs = [tensor("X", dtype, shape), tensor("scale", parameter, ["C"]), tensor("bias", parameter, ["C"])]
    node = helper.make_node(op, ["X", "scale", "bias"], ["Y"], domain=norms.DOMAIN, **attributes)
    opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    graph = helper.make_graph([node], "one", inputs, [tensor("Y", dtype, shape)])
    functions = [norms.functions()[op]]
    return helper.make_model(graph, opset_imports=opsets, ir_version=norms.IR_VERSION, functions=functions)


@pytest.mark.parametrize(("shape", "groups"), CASES)
@pytest.mark.parametrize("name", KINDS)
def test_formula_and_body_are_those_of_numpy(name: str, shape: tuple[int, ...], groups: int) -> None:
    kind, (x, scale, bias) = norms.KINDS[name], case(shape)
    own = attributes_of(kind, int(np.prod(shape[1:])) // groups)
    wanted = normalised(name, x, scale, bias, groups, epsilon=0.25, **own)
    made = norms.reference(kind, x, scale, bias, epsilon=0.25, scope=GROUP, num_groups=groups, **own)
    np.testing.assert_allclose(made, wanted, rtol=1e-12, atol=1e-12)
    feeds = {"X": x, "scale": scale, "bias": bias}
    for dtype, exact in ((onnx.TensorProto.DOUBLE, 1e-12), (onnx.TensorProto.FLOAT, 2e-5)):
        model = model_of(kind.op(GROUP), list(shape), dtype, epsilon=0.25, num_groups=groups, **own)
        norms.register_schemas()
        onnx.checker.check_model(model, full_check=True)
        numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
        fed = {key: value.astype(numpy_type) for key, value in feeds.items()}
        (y,) = OnnxRuntime(ir.from_proto(model), native=False).run(fed).values()
        np.testing.assert_allclose(y, wanted, rtol=0, atol=exact * max(1, np.abs(wanted).max()))
    (y,) = Float64Runtime(ir.from_proto(model)).run(feeds).values()
    np.testing.assert_allclose(np.asarray(y, np.float64), wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_one_group_a_channel_is_the_instance_norm(name: str) -> None:
    kind, (x, scale, bias) = norms.KINDS[name], case((2, 4, 3, 5))
    own = attributes_of(kind, 15)
    grouped = norms.reference(kind, x, scale, bias, scope=GROUP, num_groups=4, **own)
    np.testing.assert_array_equal(grouped, norms.reference(kind, x, scale, bias, scope=Scope.INSTANCE, **own))


@pytest.mark.parametrize("name", KINDS)
def test_one_value_a_group_gives_bias_and_nan_stays_in_its_group(name: str) -> None:
    kind, (_, scale, bias) = norms.KINDS[name], case((1, 4))
    own = attributes_of(kind, 1)
    alone = norms.reference(kind, np.full((3, 4), 7.0), scale, bias, scope=GROUP, num_groups=4, **own)
    np.testing.assert_array_equal(alone, np.broadcast_to(bias, (3, 4)))
    x = case((2, 4, 5))[0]
    x[1, 2, 0] = np.nan
    y = norms.reference(kind, x, scale, bias, scope=GROUP, num_groups=2, **own)
    assert np.isnan(y[1, 2:]).all()
    assert np.isfinite(y[0]).all()
    assert np.isfinite(y[1, :2]).all()


@pytest.mark.parametrize("groups", [0, -1, 4, 7])
def test_groups_of_unequal_size_are_refused_in_one_line(groups: int) -> None:
    x, scale, bias = case((2, 6, 5))
    line = rf"group norm: 6 channels can't be shared out among num_groups = {groups}; choose a num_groups that divides"
    with pytest.raises(UsageError, match=line):
        norms.reference(norms.KINDS["l1"], x, scale, bias, scope=GROUP, num_groups=groups)
    q, *parameters = x.astype(np.int8), scale.astype(np.float32), bias.astype(np.float32)
    with pytest.raises(UsageError, match=line):
        norms.quantized_reference(norms.KINDS["l1"], q, *parameters, scope=GROUP, num_groups=groups)


@pytest.mark.parametrize("groups", [4, 7])
@pytest.mark.parametrize("op", ["L1GroupNorm", "QL1GroupNorm"])
def test_the_bodies_refuse_groups_of_unequal_size(op: str, groups: int) -> None:
    one = np.ones(6, np.float32)
    dtype = onnx.TensorProto.INT8 if op.startswith("Q") else onnx.TensorProto.FLOAT
    runtime = OnnxRuntime(ir.from_proto(model_of(op, [2, 6, 5], dtype, num_groups=groups)), native=False)
    x = np.zeros((2, 6, 5), helper.tensor_dtype_to_np_dtype(dtype))
    with pytest.raises(Exception, match=r"(?i)reshape"):
        runtime.run({"X": x, "scale": one, "bias": one})


@st.composite
def quantized_case(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    shape, groups = draw(st.sampled_from(CASES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 3, 40, 255]))
    q = rng.integers(0, spread, shape).astype(np.int8) if spread < 200 else rng.integers(-128, 128, shape, np.int8)
    scale, bias = rng.uniform(-60, 60, (2, shape[1])).astype(np.float32)
    return q, scale, bias, {"num_groups": groups, "epsilon": draw(st.sampled_from([1e-5, 0.5]))}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, derandomize=True)
@given(made=quantized_case())
def test_the_integer_form_is_the_formula_rounded_and_its_body_gives_the_same_bytes(name: str, made: Any) -> None:
    kind, (q, scale, bias, how) = norms.KINDS[name], made
    own = attributes_of(kind, q[0].size // how["num_groups"])
    got = norms.quantized_reference(kind, q, scale, bias, scope=GROUP, **how, **own)
    exact = normalised(name, q, scale, bias, how["num_groups"], epsilon=how["epsilon"], **own)
    shift = bias.reshape(-1, *[1] * (q.ndim - 2)).astype(np.float64)
    slack = 5 * 6e-8 * (np.abs(exact - shift) + np.abs(shift) + 1)
    low, high = (np.rint(np.clip(exact + side * slack, -128, 127)) for side in (-1, 1))
    assert ((low <= got) & (got <= high)).all()
    np.testing.assert_array_equal(run(kind.quantized_op(GROUP), q, scale, bias, **how, **own), got)


@pytest.mark.parametrize("shape", [(0, 6), (0, 6, 5), (0, 6, 4, 4)])
@pytest.mark.parametrize("name", KINDS)
def test_an_empty_batch_gives_an_empty_result(name: str, shape: tuple[int, ...]) -> None:
    kind, one = norms.KINDS[name], np.ones(6, np.float32)
    own = attributes_of(kind, 2)
    wide = np.ones(6)
    made = norms.reference(kind, np.zeros(shape), wide, wide, scope=GROUP, num_groups=3, **own)
    assert made.shape == shape
    assert run(kind.quantized_op(GROUP), np.zeros(shape, np.int8), one, one, num_groups=3, **own).shape == shape
    model = ir.from_proto(
        model_of(kind.op(GROUP), ["N", *shape[1:]], onnx.TensorProto.FLOAT, num_groups=3, **own),
    )
    (y,) = OnnxRuntime(model, native=False).run({"X": np.zeros(shape, np.float32), "scale": one, "bias": one}).values()
    assert y.shape == shape
