"""How files keep a norm: operator sets, types, where its constants are stored, graphs within the graph."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()


# ---- operator sets ----
for opset in range(7, 23):
    ROWS.add(f"a chain in opset {opset}", lambda n: n("Relu", n.affine(n.conv())), opset=opset)
    ROWS.add(f"BatchNormalization in opset {opset}", lambda n: n("Relu", n.batchnorm(n.conv())), opset=opset)


def _old(n: Net) -> str:
    """Everything as attributes, as it was before opset 10 to 13."""
    mean = n("Unsqueeze", n("Slice", n.vector(weights(6)), starts=[1], ends=[5], axes=[0]), axes=[1, 2])
    scale = n("ReduceSum", n.vector(weights(2, C, 1, 1)), axes=[0], keepdims=0)
    _, gamma = _split(n, n.vector(np.stack([BETA, GAMMA]).reshape(2 * C)), split=[C, C], axis=0)
    y = n("Mul", n("Div", n("Sub", n.conv(), mean), scale), n("Unsqueeze", gamma, axes=[1, 2]))
    return n("Relu", n("Clip", n("Add", y, n("Squeeze", n.vector(BETA.reshape(1, C, 1, 1, 1)), axes=[0, 4]))))


def _split(n: Net, *inputs: str, **attrs: Any) -> list[str]:
    n.b.node("Split", inputs, outputs=2, **attrs)
    return list(n.b.nodes[-1].output)


ROWS.add("axes, splits and slices as attributes", _old, "Conv Clip Relu", opset=9)


@ROWS.folds("Conv Upsample Relu", opset=9, dtype=np.float32)
def behind_Upsample_of_opset_9(n: Net) -> str:
    return n("Relu", n.affine(n("Upsample", n.conv(), n.factors(1, 1, 2, 2), mode="nearest")))


@ROWS.stays("is older than 7", "Conv BatchNormalization Relu", opset=6)
def BatchNormalization_in_opset_6(n: Net) -> str:
    return n("Relu", n.batchnorm(n.conv(), is_test=1))


@ROWS.folds()
def BatchNormalization_with_epsilon_and_momentum(n: Net) -> str:
    return n("Relu", n.batchnorm(n.conv(), epsilon=1e-3, momentum=0.5))


@ROWS.folds()
def BatchNormalization_with_a_negative_gamma_and_a_zero_one(n: Net) -> str:
    constants = [n.vector(values) for values in ([1.0, -2.0, 0.0, 0.5], BETA, MEAN, VARIANCE)]
    return n("Relu", n("BatchNormalization", n.conv(), *constants))


@ROWS.folds()
def BatchNormalization_with_computed_parameters(n: Net) -> str:
    variance = n("Mul", n.vector(VARIANCE), n.number(0.5))
    gamma = n("Expand", n.number(1.0), n.ints(C))
    return n("Relu", n("BatchNormalization", n.conv(), gamma, n.vector(BETA), n.vector(MEAN), variance))


@ROWS.folds()
def BatchNormalization_with_one_constant_for_three_parameters(n: Net) -> str:
    same = n.vector(VARIANCE)
    return n("Relu", n("BatchNormalization", n.conv(), same, same, same, same))


@ROWS.folds("Gemm Relu")
def BatchNormalization_of_rank_two(n: Net) -> str:
    return n("Relu", n.batchnorm(n("Gemm", n.x(3, 5), n.vector(weights(5, C)))))


@ROWS.folds()
def BatchNormalization_of_rank_five(n: Net) -> str:
    return n("Relu", n.batchnorm(n("Conv", n.x(1, 2, 4, 4, 4), n.vector(weights(C, 2, 2, 2, 2)))))


@ROWS.stays("training mode", "Conv BatchNormalization Relu")
def BatchNormalization_that_was_exported_in_training(n: Net) -> str:
    constants = [n.vector(values) for values in (GAMMA, BETA, MEAN, VARIANCE)]
    n.b.node("BatchNormalization", [n.conv(), *constants], outputs=3, training_mode=1)
    return n("Relu", n.b.nodes[-1].output[0])


@ROWS.folds("Conv Relu", opset=12)
def BatchNormalization_whose_further_outputs_have_no_name(n: Net) -> str:
    y = n.batchnorm(n.conv())
    n.b.nodes[-1].output.extend(["", ""])
    return n("Relu", y)


@ROWS.folds()
def steps_of_open_batch_and_size(n: Net) -> str:
    y = n("Conv", n.x("batch", 2, "height", "width"), n.vector(weights(C, 2, 1, 1)))
    return n("Relu", n.affine(y))


@ROWS.folds("Conv Relu")
def instance_norm_with_running_statistics_and_a_fixed_batch(n: Net) -> str:
    constants = [n.vector(np.tile(values, 2)) for values in (GAMMA, BETA, MEAN, VARIANCE)]
    y = n("Reshape", n.conv(), n.ints(1, 2 * C, 3, 3))
    return n("Relu", n("Reshape", n("BatchNormalization", y, *constants), n.ints(2, C, 3, 3)))


@ROWS.folds("Conv Relu")
def instance_norm_with_running_statistics_and_an_open_batch(n: Net) -> str:
    return _instance(n, n.conv(n.x("batch", 2, 5, 4)))


@ROWS.folds("Transpose Conv Relu")
def instance_norm_with_running_statistics_behind_a_transposed_input(n: Net) -> str:
    return _instance(n, n.conv(n("Transpose", n.x("batch", 5, 4, 2), perm=[0, 3, 1, 2])))


@ROWS.stays("computed at inference by Tile", "Conv Shape Reshape Tile Tile Tile Tile BatchNormalization Reshape Relu")
def statistics_tiled_by_another_size_than_the_batch(n: Net) -> str:
    y = n.conv(n.x("batch", 2, 5, 4))
    return _instance(n, y, n.b.input(("count", 3), "other"))


def _instance(n: Net, y: str, counted: str = "") -> str:
    count = n("Shape", counted or y, start=0, end=1)
    tiled = [n("Tile", n.vector(values), count) for values in (GAMMA, BETA, MEAN, VARIANCE)]
    rows = n("Reshape", y, n.ints(1, -1, 3, 3))
    return n("Relu", n("Reshape", n("BatchNormalization", rows, *tiled), n.ints(-1, C, 3, 3)))


# ---- types ----
for dtype in (np.float16, np.float32, np.float64):
    name = np.dtype(dtype).name
    ROWS.add(f"a chain in {name}", lambda n: n("Relu", n.affine(n.conv())), dtype=dtype)
    ROWS.add(f"BatchNormalization in {name}", lambda n: n("Relu", n.batchnorm(n.conv())), dtype=dtype, opset=15)
ROWS.add("a chain in bfloat16", lambda n: n("Relu", n.affine(n.conv())), dtype=ml_dtypes.bfloat16, opset=22)


def stored(name: str, kind: Any) -> None:
    def write(n: Net) -> str:
        def kept(values: np.ndarray) -> str:
            return n("CastLike", n.whole(values.reshape(C, 1, 1).astype(kind)), n.number(0.0))

        return n("Relu", n("Mul", n("Sub", n.conv(), kept(np.round(MEAN))), kept(np.round(GAMMA * 4))))

    ROWS.add(f"parameters stored in {name}", write)


for kind in ("float16", "float32", "int8", "int32", "int64"):
    stored(kind, kind)
stored("bfloat16", ml_dtypes.bfloat16)


# ---- where the constants are ----
@ROWS.folds()
def every_constant_in_a_node(n: Net) -> str:
    y = n.conv()
    for step, values in (("Sub", MEAN), ("Div", VARIANCE), ("Mul", GAMMA), ("Add", BETA)):
        y = n(step, y, n.b.const(values.reshape(C, 1, 1), as_node=True))
    return n("Relu", y)


@ROWS.folds()
def constants_behind_a_hundred_identities(n: Net) -> str:
    scale = n.const(GAMMA)
    for _ in range(100):
        scale = n("Identity", scale)
    return n("Relu", n("Mul", n.conv(), scale))


@ROWS.folds("Conv Conv Relu")
def two_norms_that_share_their_constants(n: Net) -> str:
    gamma, beta = n.const(GAMMA), n.const(BETA)
    y = n("Add", n("Mul", n.conv(), gamma), beta)
    return n("Relu", n("Add", n("Mul", n.conv(y, C), gamma), beta))


# ---- weights that are computed ----
def weighted(name: str, make: Any) -> None:
    ROWS.add(f"behind a convolution with {name}", lambda n: n("Relu", n.batchnorm(n("Conv", n.x(), make(n)))))


def _standard(n: Net, ddof: int) -> str:
    weight = n.vector(weights(C, 2, 3, 2))
    centred = n("Sub", weight, n("ReduceMean", weight, n.ints(1, 2, 3)))
    total = n("ReduceSum", n("Mul", centred, centred), n.ints(1, 2, 3))
    return n("Div", centred, n("Sqrt", n("Add", n("Div", total, n.number(12 - ddof)), n.number(1e-5))))


def _by_batchnorm(n: Net) -> str:
    rows = n("Reshape", n.vector(weights(C, 2, 3, 2)), n.ints(1, C, -1))
    ones, zeros = n.vector(np.ones(C)), n.vector(np.zeros(C))
    n.b.node("BatchNormalization", [rows, ones, zeros, zeros, ones], outputs=3, training_mode=1, epsilon=1e-6)
    return n("Reshape", n.b.nodes[-1].output[0], n.ints(C, 2, 3, 2))


def _by_instance(n: Net) -> str:
    rows = n("Reshape", n.vector(weights(C, 2, 3, 2)), n.ints(1, C, -1))
    return n("Reshape", n("InstanceNormalization", rows, n.vector(GAMMA), n.vector(BETA)), n.ints(C, 2, 3, 2))


def _by_layer(n: Net) -> str:
    ones = n.vector(np.ones((2, 3, 2)))
    return n("LayerNormalization", n.vector(weights(C, 2, 3, 2)), ones, axis=1)


def _by_group(n: Net) -> str:
    return n("GroupNormalization", n.vector(weights(C, 2, 3, 2)), n.vector([1.0]), n.vector([0.0]), num_groups=1)


def _spectral(n: Net) -> str:
    weight = n.vector(weights(C, 2, 3, 2))
    rows = n("Flatten", weight)
    return n("Div", weight, n("MatMul", n.vector(GAMMA), n("MatMul", rows, n.vector(weights(12)))))


def _weight_norm(n: Net) -> str:
    weight = n.vector(weights(C, 2, 3, 2))
    size = n("ReduceL2", weight, n.ints(1, 2, 3))
    return n("Mul", n("Div", weight, size), n.vector(GAMMA.reshape(C, 1, 1, 1)))


weighted("a standardised weight", lambda n: _standard(n, 0))
weighted("a weight standardised by n - 1", lambda n: _standard(n, 1))
weighted("a weight standardised by BatchNormalization", _by_batchnorm)
weighted("a weight standardised by InstanceNormalization", _by_instance)
weighted("a weight standardised by LayerNormalization", _by_layer)
weighted("spectral norm", _spectral)
weighted("weight norm", _weight_norm)
weighted(
    "a masked weight",
    lambda n: n(
        "Mul",
        n.vector(weights(C, 2, 3, 2)),
        n("CastLike", n("Greater", n.vector(weights(C, 2, 3, 2)), n.number(0.0)), n.number(0.0)),
    ),
)
weighted(
    "a factorised weight",
    lambda n: n("Reshape", n("MatMul", n.vector(weights(C, 2)), n.vector(weights(2, 12))), n.ints(C, 2, 3, 2)),
)
weighted(
    "a weight in two halves",
    lambda n: n("Concat", n.vector(weights(2, 2, 3, 2)), n.vector(weights(2, 2, 3, 2) + 1), axis=0),
)
weighted(
    "a weight laid out in another order", lambda n: n("Transpose", n.vector(weights(3, 2, 2, C)), perm=[3, 2, 0, 1])
)
weighted("a weight times a gain", lambda n: n("Mul", n.vector(weights(C, 2, 3, 2)), n.number(0.3)))
weighted(
    "a weight stored as 8-bit numbers",
    lambda n: n(
        "Mul",
        n("CastLike", n.whole(np.arange(-24, 24, dtype=np.int8).reshape(C, 2, 3, 2)), n.number(0.0)),
        n.number(0.05),
    ),
)


# ---- graphs within the graph ----
def _graph(n: Net, nodes: list[Any], output: str, inputs: list[Any] = []) -> Any:  # noqa: B006
    elem = helper.np_dtype_to_tensor_dtype(n.b.dtype)
    return helper.make_graph(nodes, "inner", inputs, [helper.make_tensor_value_info(output, elem, None)])


@ROWS.stays("comes from around the branch or loop", "Conv If Relu")
def in_both_branches_of_an_If(n: Net) -> str:
    y, scale, shift = n.conv(), n.const(GAMMA), n.const(BETA)
    branches = {}
    for name, op in (("then", "Add"), ("else", "Sub")):
        nodes = [
            helper.make_node("Mul", [y, scale], [f"{name}_mul"], name=f"{name}_mul"),
            helper.make_node(op, [f"{name}_mul", shift], [f"{name}_out"], name=f"{name}_shift"),
        ]
        branches[f"{name}_branch"] = _graph(n, nodes, f"{name}_out")
    return n("Relu", n("If", n.whole(np.array(True)), **branches))


@ROWS.stays("is a graph input, not a constant", "Conv Loop Reshape Relu")
def in_the_body_of_a_Loop(n: Net) -> str:
    y, scale = n.conv(), n.const(GAMMA)
    elem = helper.np_dtype_to_tensor_dtype(n.b.dtype)
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", elem, [2, C, 3, 3]),
    ]
    nodes = [
        helper.make_node("Identity", ["go"], ["going"]),
        helper.make_node("Mul", ["state", scale], ["next"], name="inner_mul"),
    ]
    outputs = [
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", elem, [2, C, 3, 3]),
    ]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    y = n("Loop", n.whole(np.int64(2)), n.whole(np.array(True)), y, body=body)
    return n("Relu", n("Reshape", y, n.ints(2, C, 3, 3)))
