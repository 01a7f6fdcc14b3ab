"""Numbers out of a half type's range are replaced where float64 shows no difference, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.masks import Masks, out_of_range, with_stand_ins
from normexport.precision.half.rounding import rounding_in_float32
from normexport.runtime import OnnxRuntime

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
SMALLEST = float(np.finfo(np.float32).min)
FLOAT, BOOL, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT64
node = onnx.helper.make_node


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    inputs: tuple[str, ...] = ("x", "c"),
    outputs: tuple[str, ...] = ("y",),
    output_type: int = FLOAT,
    opset: int = 20,
) -> onnx.ModelProto:
    """A graph of scores x (2, 5, 5), a condition c of the same shape, and constants."""
    value = onnx.helper.make_tensor_value_info
    types = {"x": (FLOAT, (2, 5, 5)), "c": (BOOL, (2, 5, 5)), "m": (FLOAT, (2, 5, 5))}
    given = [value(name, *types[name]) for name in inputs]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = onnx.helper.make_graph(nodes, "g", given, [value(name, output_type, None) for name in outputs], tensors)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(onnx.helper.make_model(made, opset_imports=opsets, ir_version=10))


def replaced(
    proto: onnx.ModelProto, dtype: str = "float16", peak: float = 6.0, peaks: dict[str, float] | None = None
) -> Masks:
    """What becomes of the graph where x reaches `peak`."""
    return with_stand_ins(ir.from_proto(proto), LARGEST[dtype], {"x": peak, **(peaks or {})})


def half_result(masks: Masks, dtype: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The one output of the half file, each value rounded as it says."""
    (y,) = OnnxRuntime(rounding_in_float32(to_half(masks.model, HalfConfig(dtype)))).run(feeds).values()
    return y


def softmax(scores: np.ndarray) -> np.ndarray:
    """In float64, along the last axis; NaN where all is -inf."""
    with np.errstate(invalid="ignore"):
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


def feeds(dtype: str, seed: int = 0, scale: float = 2.0) -> dict[str, np.ndarray]:
    """Scores that the type holds exactly, and conditions with a row of all true and one of all false."""
    rng = np.random.default_rng(seed)
    narrow = ir.DataType[dtype.upper()].numpy()
    x = (rng.standard_normal((2, 5, 5)) * scale).astype(np.float32).astype(narrow).astype(np.float32)
    c = rng.random((2, 5, 5)) < 0.5
    c[0, 0], c[1, 1] = True, False
    return {"x": x, "c": c}


WHERE = [node("Where", ["c", "x", "k"], ["z"]), node("Softmax", ["z"], ["y"], axis=-1)]


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("number", [-1e5, -1e9, SMALLEST, 1e9])
@pytest.mark.parametrize("seed", range(3))
def test_masked_scores_give_the_softmax_of_float64_in_rows_masked_whole_too(
    dtype: str, number: float, seed: int
) -> None:
    masks = replaced(model(WHERE, {"k": np.float32(number)}), dtype)
    assert bool(masks.notes) == (abs(number) > LARGEST[dtype])
    given = feeds(dtype, seed)
    exact = softmax(np.where(given["c"], given["x"].astype(np.float64), number))
    np.testing.assert_array_equal(exact[1, 1], 0.2)
    np.testing.assert_allclose(half_result(masks, dtype, given), exact, atol=2e-7)


def test_without_a_stand_in_a_row_masked_whole_is_nan() -> None:
    proto = ir.from_proto(model(WHERE, {"k": np.float32(-1e9)}))
    plain = OnnxRuntime(rounding_in_float32(to_half(proto))).run(feeds("float16"))["y"]
    assert np.isnan(plain[1, 1]).all()


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("number", [-1e9, SMALLEST])
@pytest.mark.parametrize("seed", range(3))
def test_a_constant_mask_that_is_added_gives_the_softmax_of_float64(dtype: str, number: float, seed: int) -> None:
    mask = np.triu(np.full((5, 5), number, np.float32), 1)
    nodes = [node("Add", ["x", "k"], ["z"]), node("Softmax", ["z"], ["y"], axis=-1)]
    masks = replaced(model(nodes, {"k": mask}), dtype)
    assert bool(masks.notes) == (abs(number) > LARGEST[dtype])
    given = feeds(dtype, seed)
    exact = softmax(given["x"].astype(np.float64) + mask)
    np.testing.assert_allclose(half_result(masks, dtype, given), exact, atol=2e-7)


def test_scores_may_grow_to_twice_their_peak() -> None:
    given = feeds("float16", scale=1.0)
    given["x"] = np.clip(given["x"] * 1e5, -32000, 32000).astype(np.float16).astype(np.float32)
    masks = replaced(model(WHERE, {"k": np.float32(-1e9)}), peak=16000.0)
    exact = softmax(np.where(given["c"], given["x"].astype(np.float64), -1e9))
    np.testing.assert_allclose(half_result(masks, "float16", given), exact, atol=2e-7)


def add(mask: np.ndarray | float, **options: Any) -> Masks:
    nodes = [node("Add", ["x", "k"], ["z"]), node("Softmax", ["z"], ["y"], axis=-1)]
    return replaced(model(nodes, {"k": np.asarray(mask, np.float32)}), **options)


CAUSAL = np.triu(np.full((5, 5), -1e9), 1)
WHOLE_ROW = np.where(np.arange(5)[:, None] == 3, -1e9, CAUSAL)
REFUSED = {
    "a row masked whole would be rounded": lambda: add(WHOLE_ROW),
    "scores too large for the sum": lambda: add(CAUSAL, peak=5000.0),
    "scores never measured": lambda: with_stand_ins(ir.from_proto(model(WHERE, {"k": np.float32(-1e9)})), 65504.0, {}),
    "infinite scores": lambda: add(CAUSAL, peak=float("inf")),
    "one number for a row": lambda: add(np.full((5, 1), -1e9)),
    "a scalar": lambda: add(-1e9),
    "other entries of the mask too large": lambda: add(np.where(CAUSAL == 0, 6000, CAUSAL)),
    "a mask with NaN": lambda: add(np.where(np.tri(5) == 0, np.nan, 0)),
    "scores too large to choose from": lambda: replaced(model(WHERE, {"k": np.float32(-1e9)}), peak=17000.0),
    "the logarithm shows the number": lambda: replaced(
        model([WHERE[0], node("LogSoftmax", ["z"], ["y"])], {"k": np.float32(-1e9)})
    ),
    "a maximum shows the number": lambda: replaced(
        model([WHERE[0], node("ReduceMax", ["z"], ["y"])], {"k": np.float32(-1e9)})
    ),
    "the masked scores are an output": lambda: replaced(model(WHERE, {"k": np.float32(-1e9)}, outputs=("y", "z"))),
    "a sum after the choice": lambda: replaced(
        model(
            [WHERE[0], node("Add", ["z", "x"], ["s"]), node("Softmax", ["s"], ["y"], axis=-1)], {"k": np.float32(-1e9)}
        )
    ),
    "two numbers in a row, of which the larger wins": lambda: replaced(
        model(
            [
                node("Where", ["c", "x", "k"], ["a"]),
                node("Not", ["c"], ["n"]),
                node("Where", ["n", "a", "l"], ["z"]),
                WHERE[1],
            ],
            {"k": np.float32(-1e9), "l": np.float32(-1e8)},
        )
    ),
    "a mask that is computed": lambda: replaced(
        model(
            [node("Mul", ["m", "k"], ["a"]), node("Add", ["x", "a"], ["z"]), WHERE[1]],
            {"k": np.float32(-1e9)},
            inputs=("x", "m"),
        )
    ),
    "a clip that always acts": lambda: replaced(
        model([node("Clip", ["x", "k"], ["y"])], {"k": np.float32(1e9)}, inputs=("x",))
    ),
    "a maximum that always acts": lambda: replaced(
        model([node("Max", ["x", "k"], ["y"])], {"k": np.float32(1e9)}, inputs=("x",))
    ),
    "a comparison with numbers near the end": lambda: replaced(
        model([node("Less", ["x", "k"], ["y"])], {"k": np.float32(1e9)}, ("x",), output_type=BOOL), peak=40000.0
    ),
    "a product": lambda: replaced(model([node("Mul", ["x", "k"], ["y"])], {"k": np.float32(1e9)}, inputs=("x",))),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_number_that_shows_stays(why: str) -> None:
    masks = REFUSED[why]()
    assert masks.notes == ()
    assert masks.stand_ins == frozenset()


@pytest.mark.parametrize(
    ("nodes", "constants", "output_type"),
    [
        ([node("Clip", ["x", "low", "high"], ["y"])], {"low": SMALLEST, "high": -SMALLEST}, FLOAT),
        ([node("Clip", ["x", "", "k"], ["y"])], {"k": 1e6}, FLOAT),
        ([node("Max", ["x", "k"], ["y"])], {"k": -1e6}, FLOAT),
        ([node("Min", ["k", "x"], ["y"])], {"k": 1e6}, FLOAT),
        ([node("Less", ["x", "k"], ["y"])], {"k": 1e6}, BOOL),
        ([node("Equal", ["k", "x"], ["y"])], {"k": -1e9}, BOOL),
        ([WHERE[0], node("ArgMax", ["z"], ["y"], axis=2)], {"k": -1e9}, INT64),
        (
            [
                WHERE[0],
                node("Unsqueeze", ["z", "axes"], ["a"]),
                node("Identity", ["a"], ["b"]),
                node("Softmax", ["b"], ["y"]),
            ],
            {"k": -1e9, "axes": 1},
            FLOAT,
        ),
        (
            [
                node("Where", ["c", "x", "k"], ["a"]),
                node("Not", ["c"], ["n"]),
                node("Where", ["n", "a", "k"], ["z"]),
                *WHERE[1:],
            ],
            {"k": -1e9},
            FLOAT,
        ),
        ([node("Constant", [], ["k"], value_float=-1e9), *WHERE], {}, FLOAT),
    ],
)
def test_a_number_that_does_not_show_is_replaced(
    nodes: list[onnx.NodeProto], constants: dict[str, float], output_type: int
) -> None:
    inputs = ("x", "c") if any("c" in each.input for each in nodes) else ("x",)
    arrays = {
        name: np.array([value], np.int64) if name == "axes" else np.float32(value) for name, value in constants.items()
    }
    proto = model(nodes, arrays, inputs, output_type=output_type)
    masks = replaced(proto)
    assert len(masks.notes) == len([name for name in {*constants, "k"} if name != "axes"]) - ("low" in constants)
    assert not out_of_range(masks.model, LARGEST["float16"])
    onnx.checker.check_model(ir.to_proto(masks.model), full_check=True)
    given = {name: array for name, array in feeds("float16").items() if name in inputs}
    (exact,) = OnnxRuntime(ir.from_proto(proto)).run(given).values()
    np.testing.assert_allclose(half_result(masks, "float16", given), exact, rtol=1e-6, atol=2e-7)


def test_a_constant_is_replaced_only_where_it_does_not_show() -> None:
    nodes = [*WHERE, node("Mul", ["x", "k"], ["w"])]
    masks = replaced(model(nodes, {"k": np.float32(-1e9)}, outputs=("y", "w")))
    reads = {each.op_type: each.inputs[-1].name for each in masks.model.graph if each.op_type in ("Where", "Mul")}
    assert reads == {"Where": "k_in_range", "Mul": "k"}


def test_what_a_caller_may_replace_stays() -> None:
    proto = model(WHERE, {"k": np.float32(-1e9)})
    proto.graph.input.append(onnx.helper.make_tensor_value_info("k", FLOAT, ()))
    assert replaced(proto).notes == ()


def test_infinities_and_nan_are_not_out_of_range() -> None:
    nodes = [node("Add", ["x", "k"], ["y"])]
    assert not out_of_range(
        ir.from_proto(model(nodes, {"k": np.array([np.inf, -np.inf, np.nan, 65504, 0], "f")})), 65504
    )
