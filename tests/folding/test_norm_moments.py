"""What norms know of tensors: read from graphs, held against the tensors, and carried through folds and files."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.folding import fold
from normexport.folding.constants import Constants
from normexport.folding.moments import moments_of_norms
from normexport.graphs.moments import KEY, Moments, carry_moments, moments_in
from normexport.graphs.upgrade import upgraded
from normexport.io.json_files import BadJson
from normexport.norms.kind import NormKind
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.folding.build import GraphBuilder

CHANNELS = 5
RNG = np.random.default_rng(3)
DATA = RNG.normal(0.7, 1.9, (64, 2, 12, 12))
WEIGHT = RNG.normal(0, 1, (CHANNELS, 2, 3, 3))
GAMMA, BETA = RNG.uniform(0.5, 2.0, CHANNELS) * (1, -1, 1, 1, -1), RNG.normal(0, 2, CHANNELS)


def convolved() -> np.ndarray:
    graph = GraphBuilder()
    graph.output(graph.node("Conv", [graph.input(("N", 2, "H", "W")), graph.const(WEIGHT)]))
    (found,) = Float64Runtime(ir.from_proto(graph.model())).run({"x": DATA}).values()
    return found


def by_channel(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)


def normed(kind: str) -> ir.Model:
    """Convolution, the norm whose statistics are those of DATA, ReLU."""
    rows = by_channel(convolved())
    mean, dtype = rows.mean(axis=1), np.float32
    graph = GraphBuilder(dtype)
    value = graph.node("Conv", [graph.input(("N", 2, "H", "W")), graph.const(WEIGHT)])
    if kind == "batchnorm":
        constants = [graph.const(each) for each in (GAMMA, BETA, mean, rows.var(axis=1))]
        value = graph.node("BatchNormalization", [value, *constants])
    else:
        known = norms.KINDS[kind]
        stat = known.statistic(rows - mean[:, None], k=10, chunks=16, correction=0.0)
        constants = [graph.const(each) for each in (mean, 1 / stat, GAMMA, BETA)]
        value = graph.node("RunningNorm", [value, *constants], domain=norms.DOMAIN, kind=kind)
    graph.output(graph.node("Relu", [value]))
    model = graph.model()
    model.functions.append(norms.functions()["RunningNorm"])
    return ir.from_proto(model)


def test_a_batch_norm_knows_mean_and_deviation_before_it_and_behind_it() -> None:
    model = normed("batchnorm")
    conv, norm, _ = model.graph
    found = moments_of_norms(model.graph, Constants(model.graph))
    values: dict[str, np.ndarray] = {}
    OnnxRuntime(model).run({"x": DATA.astype(np.float32)}, [str(norm.outputs[0].name)], values.__setitem__)
    for value, array in ((conv.outputs[0], convolved()), (norm.outputs[0], values[str(norm.outputs[0].name)])):
        moments, rows = found[str(value.name)], by_channel(array)
        np.testing.assert_allclose(moments.mean, rows.mean(axis=1), atol=1e-4)
        np.testing.assert_allclose(moments.std, rows.std(axis=1), rtol=1e-4)


@pytest.mark.parametrize(("kind", "off"), [("l1", 0.13), ("l2", 0.01), ("linf", 0.15), ("topk", 0.15), ("range", 0.1)])
def test_every_kind_tells_the_deviation_of_normal_numbers_and_of_its_own_tails(kind: str, off: float) -> None:
    """Sums of 18 normal numbers are normal; L1 is set for Laplace tails, whose mean deviation is smaller."""
    model = normed(kind)
    found = moments_of_norms(model.graph, Constants(model.graph))
    conv = next(iter(model.graph))
    ratio = found[str(conv.outputs[0].name)].std / by_channel(convolved()).std(axis=1)
    assert np.abs(ratio - 1).max() < off + 0.05
    assert found[str(conv.outputs[0].name)].kind == kind


@pytest.mark.parametrize("kind", list(norms.KINDS.values()), ids=lambda kind: kind.name)
def test_a_kind_s_statistic_is_what_it_says_of_numbers_with_its_tails(kind: NormKind) -> None:
    rng = np.random.default_rng(0)
    size = (8, 1 << 16)
    drawn = rng.laplace(0, math.sqrt(0.5), size) if kind.tails == "heavy" else rng.normal(0, 1, size)
    drawn -= drawn.mean(axis=1, keepdims=True)
    ratio = kind.statistic(drawn, k=10, chunks=16, correction=0.0) / drawn.std(axis=1)
    np.testing.assert_allclose(ratio.mean(), kind.per_std, rtol=0.05)  # extremes scatter by a tenth
    largest = np.abs(drawn).max(axis=1) / kind.statistic(drawn, k=10, chunks=16, correction=0.0)
    assert largest.mean() <= kind.extreme * 1.01


@pytest.mark.parametrize("kind", ["batchnorm", "l1", "linf"])
def test_a_folded_file_carries_what_its_norms_knew(kind: str) -> None:
    model = normed(kind)
    norm = model.graph.node(1)
    before = moments_of_norms(model.graph, Constants(model.graph))
    folded = fold(model).model
    assert [node.op_type for node in folded.graph] == ["Conv", "Relu"]
    written = ir.to_proto(folded)
    onnx.checker.check_model(written)
    carried = moments_in(ir.from_proto(written))
    assert set(carried) == {norm.outputs[0].name}  # the convolution's own result is gone
    found = carried[str(norm.outputs[0].name)]
    np.testing.assert_allclose(found.mean, BETA, rtol=1e-3)
    np.testing.assert_allclose(found.std, before[str(norm.outputs[0].name)].std, rtol=1e-3)
    assert (found.axis, found.kind, found.norm) == (1, kind, norm.name)


def test_a_fold_that_changes_nothing_is_still_the_very_same_model() -> None:
    folded = fold(normed("l1")).model
    again = fold(folded)
    assert again.model is folded
    assert moments_in(folded)


def test_moments_survive_a_newer_operator_set() -> None:
    graph = GraphBuilder(np.float32, opset=12)
    value = graph.node("Conv", [graph.input(("N", 2, 8, 8)), graph.const(WEIGHT)])
    constants = [graph.const(each) for each in (GAMMA, BETA, BETA, GAMMA**2)]
    graph.output(graph.node("BatchNormalization", [value, *constants]))
    folded = fold(ir.from_proto(graph.model())).model
    raised = upgraded(folded, 13)
    assert raised is not folded
    assert moments_in(raised).keys() == moments_in(folded).keys() != set()


def test_statistics_that_are_no_numbers_are_not_carried() -> None:
    graph = GraphBuilder(np.float32)
    broken = np.array([1.0, math.inf, 1.0, 1.0, math.nan])
    value = graph.input(("N", CHANNELS, "H", "W"))
    constants = [graph.const(each) for each in (BETA, broken, GAMMA, BETA)]
    graph.output(graph.node("RunningNorm", [value, *constants], domain=norms.DOMAIN, kind="l1"))
    model = graph.model()
    model.functions.append(norms.functions()["RunningNorm"])
    read = ir.from_proto(model)
    assert "x" not in moments_of_norms(read.graph, Constants(read.graph))


def test_a_norm_that_only_centres_knows_no_deviation() -> None:
    model = normed("l2")
    model.graph.node(1).attributes["kind"] = ir.AttrString("kind", "mean")
    assert moments_of_norms(model.graph, Constants(model.graph)) == {}


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"y": {"axis": 1, "kind": "l1", "norm": "n", "mean": [1.0], "std": [-1.0]}}',
        '{"y": {"axis": 1, "kind": "l1", "norm": "n", "mean": [1.0, 2.0], "std": [1.0]}}',
        '{"y": {"axis": 1, "kind": "l1", "norm": "n", "mean": [1e999], "std": [1.0]}}',
        '{"y": {"axis": 1, "kind": "l1", "norm": "n", "mean": [], "std": []}}',
        '{"y": {"axis": -1, "kind": "l1", "norm": "n", "mean": [1.0], "std": [1.0]}}',
        '{"y": {"axis": 1, "kind": "l1", "norm": "n", "mean": [1.0], "std": [1.0], "more": 1}}',
    ],
)
def test_metadata_of_another_form_is_refused(text: str) -> None:
    model = normed("l1")
    model.metadata_props[KEY] = text
    with pytest.raises(BadJson):
        moments_in(model)
    assert KEY in fold(model).model.metadata_props  # what it carries now is its own
    assert moments_in(fold(model).model)


def test_moments_of_values_that_are_gone_are_left_out() -> None:
    model = normed("l1")
    moments = Moments.of([1.0], [2.0])
    assert moments is not None
    carry_moments(model, {"x": moments, "no such value": moments})
    assert set(json.loads(model.metadata_props[KEY])) == {"x"}
    carry_moments(model, {})
    assert set(moments_in(model)) == {"x"}


@pytest.mark.parametrize("alone", [False, True])
def test_whether_each_sample_has_them_travels_along(alone: bool) -> None:
    model = normed("l1")
    moments = Moments.of([1.0], [2.0], kind="l1", per_sample=alone)
    assert moments is not None
    carry_moments(model, {"x": moments})
    assert moments_in(model)["x"].per_sample == alone
    assert ("per_sample" in json.loads(model.metadata_props[KEY])["x"]) == alone  # files of before have it not
