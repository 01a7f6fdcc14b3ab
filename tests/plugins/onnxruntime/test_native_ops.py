"""Every operator of the custom-op library in every type, against the float64 reference and the portable body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from normexport import norms
from normexport.norms import Scope
from tests.plugins.onnxruntime.one_node import TYPES, bound, int8_model, live_model, rounded, session

SHAPES = [(3, 4, 5, 5), (2, 3, 7), (12, 3), (2, 2, 2, 3, 4), (1, 1, 64, 33)]
SETTINGS = {"k": 3, "chunks": 4, "num_groups": 1}


def attributes_of(op: str, groups: int = 1) -> dict[str, Any]:
    names = {*norms.live_ops()[op.removeprefix("Q")].parameters, *Scope.of_op(op).parameters}
    return {name: {**SETTINGS, "num_groups": groups}[name] for name in sorted(names)}


def groups_of(shape: tuple[int, ...]) -> list[int]:
    """Numbers of groups that its channels can be shared out among."""
    return [groups for groups in range(1, shape[1] + 1) if shape[1] % groups == 0]


def feeds_of(shape: tuple[int, ...], x_type: str, parameters: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(shape))
    x = rounded(rng.standard_normal(shape) + 0.5, x_type)
    scale, bias = rng.uniform(0.5, 1.5, shape[1]), rng.standard_normal(shape[1])
    return {"x": x, "scale": rounded(scale, parameters), "bias": rounded(bias, parameters)}


@pytest.mark.parametrize("parameters", ["float32", "float64"])
@pytest.mark.parametrize("x_type", TYPES)
@pytest.mark.parametrize("op", norms.live_ops())
def test_operator_is_the_reference_and_the_body(op: str, x_type: str, parameters: str, ort_library: Path) -> None:
    kind, instance = norms.live_ops()[op], "Instance" in op
    own = attributes_of(op)
    native = session(live_model(op, x_type, parameters, epsilon=1e-3, **own), ort_library)
    body = session(live_model(op, x_type, parameters, epsilon=1e-3, bodies=True, **own))
    for shape in SHAPES:
        if instance and kind.name == "topk" and np.prod(shape[2:]) < SETTINGS["k"]:
            continue
        feeds = feeds_of(shape, x_type, parameters)
        expected = norms.reference(kind, *feeds.values(), epsilon=float(np.float32(1e-3)), scope=Scope.of_op(op), **own)
        y = native.run(None, feeds)[0]
        limit = bound(expected, x_type)
        np.testing.assert_allclose(y, expected, rtol=0, atol=limit, err_msg=str(shape))
        # A body computes in the type of scale, which is float32 for half of the float64 tensors here.
        loosest = max(limit, bound(expected, "float32")) if parameters == "float32" else limit
        np.testing.assert_allclose(y, body.run(None, feeds)[0], rtol=0, atol=limit + loosest, err_msg=str(shape))


@pytest.mark.parametrize("op", norms.quantized_ops())
def test_integer_operator_gives_the_bytes_of_the_reference(op: str, ort_library: Path) -> None:
    kind, own = norms.quantized_ops()[op], attributes_of(op)
    native = session(int8_model(op, epsilon=0.25, **own), ort_library)
    rng = np.random.default_rng(7)
    for shape in [(3, 4, 5, 5), (2, 3, 7), (2, 2, 2, 3, 4), (8, 3, 28, 28)]:
        q = rng.integers(-128, 128, shape).astype(np.int8)
        scale, bias = rng.uniform(10, 60, shape[1]).astype(np.float32), rng.normal(0, 9, shape[1]).astype(np.float32)
        expected = norms.quantized_reference(kind, q, scale, bias, epsilon=0.25, scope=Scope.of_op(op), **own)
        np.testing.assert_array_equal(native.run(None, {"q": q, "scale": scale, "bias": bias})[0], expected)


@pytest.mark.parametrize("op", norms.live_ops())
def test_attributes_left_out_have_the_defaults_of_the_operator(op: str, ort_library: Path) -> None:
    kind = norms.live_ops()[op]
    feeds = feeds_of((3, 4, 5, 5), "float64", "float64")
    y = session(live_model(op, "float64", "float64"), ort_library).run(None, feeds)[0]
    expected = norms.reference(kind, *feeds.values(), epsilon=float(np.float32(1e-5)), scope=Scope.of_op(op))
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound(expected, "float64"))


@pytest.mark.parametrize("x_type", TYPES)
@pytest.mark.parametrize("kind", norms.KINDS)
def test_every_number_of_groups_is_the_reference(kind: str, x_type: str, ort_library: Path) -> None:
    op = norms.kind(kind).op(Scope.GROUP)
    for shape in [(3, 6, 5, 5), (2, 4, 7), (5, 96), (2, 2, 2, 3, 4)]:
        for groups in groups_of(shape):
            if np.prod(shape[1:]) // groups < SETTINGS["k"]:
                continue
            own = attributes_of(op, groups)
            feeds = feeds_of(shape, x_type, "float32")
            y = session(live_model(op, x_type, "float32", epsilon=1e-3, **own), ort_library).run(None, feeds)[0]
            expected = norms.reference(
                norms.kind(kind), *feeds.values(), epsilon=float(np.float32(1e-3)), scope=Scope.GROUP, **own
            )
            np.testing.assert_allclose(y, expected, rtol=0, atol=bound(expected, x_type), err_msg=f"{shape} {groups}")


@pytest.mark.parametrize(("groups", "words"), [(4, "6 channels can't be shared out among num_groups = 4"),
                                               (0, "num_groups = 0; choose at least 1")])  # fmt: skip
def test_groups_of_unequal_size_are_refused_by_name(groups: int, words: str, ort_library: Path) -> None:
    model = live_model("L1GroupNorm", num_groups=groups)
    with pytest.raises(Exception, match=words):
        session(model, ort_library).run(None, feeds_of((2, 6, 5), "float64", "float64"))


def test_correction_replaces_the_factor_of_the_kind(ort_library: Path) -> None:
    feeds = feeds_of((3, 4, 5, 5), "float64", "float64")
    y = session(live_model("LinfBatchNorm", "float64", "float64", correction=0.75), ort_library).run(None, feeds)[0]
    expected = norms.reference(norms.kind("linf"), *feeds.values(), epsilon=float(np.float32(1e-5)), correction=0.75)
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound(expected, "float64"))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("op", ["L1BatchNorm", "TopKInstanceNorm"])
def test_number_of_threads_changes_no_bit(op: str, threads: int, ort_library: Path) -> None:
    feeds = feeds_of((4, 16, 40, 40), "float32", "float32")
    one, many = (session(live_model(op), ort_library, intra_op_num_threads=n) for n in (1, threads))
    np.testing.assert_array_equal(one.run(None, feeds)[0], many.run(None, feeds)[0])


@pytest.mark.parametrize("shape", [(0, 4, 5, 5), (2, 4, 0), (2, 0, 3)])
@pytest.mark.parametrize("op", norms.live_ops())
def test_empty_tensor_gives_an_empty_tensor(op: str, shape: tuple[int, ...], ort_library: Path) -> None:
    channels = np.ones(shape[1])
    feeds = {"x": np.zeros(shape), "scale": channels, "bias": channels}
    assert session(live_model(op), ort_library).run(None, feeds)[0].shape == shape


def test_shape_of_the_result_is_known_before_the_run(ort_library: Path) -> None:
    model = live_model("L1BatchNorm")
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = "N"
    for size in (4, 5, 6):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
    assert session(model, ort_library).get_outputs()[0].shape == ["N", 4, 5, 6]


def test_result_in_the_place_of_its_input_is_the_same(ort_library: Path) -> None:
    # ONNX Runtime lets y take the memory of the cast x, but not of a graph input.
    feeds = {name: value.astype(np.float32) for name, value in feeds_of((2, 8, 30, 30), "float32", "float32").items()}
    over_cast = session(live_model("L1BatchNorm"), ort_library)
    direct = live_model("L1BatchNorm")
    del direct.graph.node[:3], direct.graph.node[-1]
    for value in (*direct.graph.input, *direct.graph.output):
        value.type.tensor_type.elem_type = TYPES["float32"][0]
    direct.graph.node[0].input[:] = ["x", "scale", "bias"]
    direct.graph.node[0].output[:] = ["y"]
    wide = {name: value.astype(np.float64) for name, value in feeds.items()}
    np.testing.assert_array_equal(session(direct, ort_library).run(None, feeds)[0], over_cast.run(None, wide)[0])


def test_loading_the_library_twice_and_in_many_sessions_is_harmless(ort_library: Path) -> None:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(ort_library))
    model = live_model("L2BatchNorm").SerializeToString()
    feeds = feeds_of((2, 3, 4), "float32", "float32")
    results = [ort.InferenceSession(model, options).run(None, feeds)[0] for _ in range(3)]
    again = session(live_model("L2BatchNorm"), ort_library).run(None, feeds)[0]
    for result in results:
        np.testing.assert_array_equal(result, again)
