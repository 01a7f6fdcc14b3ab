"""Scales around HardSwish and its like change no result, even out what int8 holds, and stay where that is worth it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.graphs.node_metadata import FOLDED
from normexport.precision import Fp8, Int8
from normexport.precision.config import EightBit
from normexport.precision.half.search import group_of
from normexport.precision.int8 import edits
from normexport.precision.int8.borders import open_borders
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.equalise import equalise
from normexport.precision.int8.extremes import channel_extremes
from normexport.precision.int8.fitting import Fitting
from normexport.precision.int8.quantise import quantize
from normexport.precision.samples import Batches
from normexport.runtime import OnnxRuntime
from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import border_claims
from tests.precision.int8.border_claims import CURVES, curved, with_scales
from tests.precision.int8.equalise_claims import check_same, feeds_of
from tests.precision.int8.linked_graphs import Graph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("claim", border_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@settings(max_examples=25)
@given(seed=st.integers(100, 10_000))
def test_no_result_moves_by_more_than_a_billionth(seed: int) -> None:
    border_claims.check_random(seed)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), curve=st.sampled_from(sorted(CURVES)))
def test_no_curve_sees_other_numbers(seed: int, curve: str) -> None:
    model, *_ = curved(CURVES[curve], seed)
    _, found = with_scales(model, seed)
    check_same(model, found.model, {name: -7 * array for name, array in feeds_of(model, seed).items()})


def matrices(dtype: type = np.float32) -> ir.Model:
    """A layer and its bias apart, a curve and a layer, of rows."""
    g = Graph(0, (16, 6), dtype)
    added = g.node("Add", [g.matmul("x", 8), g.const(g.random.standard_normal(8).astype(dtype))], (16, 8))
    return g.model(g.matmul(g.node("Mul", [added, g.node("Sigmoid", [added], (16, 8))], (16, 8)), 3))


def test_of_rows_channels_lie_last() -> None:
    model = matrices(np.float64)
    opened, found = with_scales(model)
    assert len(opened.scales) == 2
    check_same(model, found.model, feeds_of(model))
    assert found.scaled == 7  # all but the largest


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_int8_keeps_more_with_scales(curve: str) -> None:
    """Of a channel a thousand times smaller than others, which a depthwise layer makes as large."""
    model, first, _ = curved(CURVES[curve], 3, np.float32)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    opened = open_borders(model)
    scaled = equalise(opened.model, channel_extremes(opened.model, [{"x": x}])).model
    exact = next(iter(OnnxRuntime(model).run({"x": x}).values()))
    errors = []
    for each in (model, scaled):
        ranges = calibrate(each, [{"x": x}], "minmax").ranges
        found = next(iter(OnnxRuntime(quantize(each, ranges).model).run({"x": x}).values()))
        errors.append(float(np.square(found - exact).sum()))
    assert errors[1] < 0.7 * errors[0], first


def test_a_scale_is_of_the_module_in_front_and_had_nothing_folded_into_it() -> None:
    model, first, _ = curved(CURVES["HardSwish"], 0, np.float32)
    conv = model.graph[0]
    conv.metadata_props.update({"pkg.torch.onnx.name_scopes": "['', 'stem', 'conv']", FOLDED: "x"})
    opened = open_borders(model)
    (scale,) = [node for node in opened.model.graph if node.outputs[0].name == opened.scales[first]]
    assert group_of(scale) == group_of(conv) != group_of(model.graph[1])
    assert FOLDED not in scale.metadata_props


def test_a_tensor_without_a_name_or_of_another_type_has_no_scale() -> None:
    model, first, second = curved(CURVES["HardSwish"], 0, np.float32)
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    values[first].name, values[second].dtype = "", ir.DataType.FLOAT16
    assert open_borders(model).model is model


def improvement(levels: Iterator[float], config: EightBit, monkeypatch: pytest.MonkeyPatch) -> edits.Improved:
    """What is made of a HardSwish between two layers where trials have these levels, one after the other."""
    model, *_ = curved(CURVES["HardSwish"], 3, np.float32)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    batches = Batches(lambda: iter([{"x": x}]), 4)
    monkeypatch.setattr(edits.Improvement, "trial", lambda self, model: next(levels))
    monkeypatch.setattr(edits.Improvement, "_noisiest", lambda self, given, names: frozenset(sorted(names)[:1]))
    work = edits.Improvement(Fitting(config, batches, lambda _: 0.0, ()))
    given = edits.Improved(model, calibrate(model, batches(), "minmax").ranges)
    return work.scaled(given, channel_extremes(model, batches()))[0]


@pytest.mark.parametrize(
    ("levels", "kept", "scales", "after"),
    [
        ((10.0, 11.9), False, 2, 11.9),  # costs time, and gives too little for it
        ((10.0, 20.0, 19.5), True, 1, 19.5),  # one is nearly as good as both
        ((10.0, 20.0, 18.5), True, 2, 20.0),  # one is not
    ],
)
def test_scales_are_kept_where_they_are_worth_their_time(
    levels: tuple[float, ...], kept: bool, scales: int, after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = improvement(iter(levels), Int8(method="minmax"), monkeypatch)
    (edit,) = found.edits
    assert (edit.name, edit.kept, edit.layers, edit.before_db, edit.after_db) == (
        "scales inserted",
        kept,
        scales,
        10.0,
        after,
    )
    made = [str(node.name) for node in found.model.graph if str(node.name).endswith("_scaled")]
    assert len(made) == (scales if kept else 0)


def test_float8_needs_no_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    assert improvement(iter(()), Fp8(method="minmax"), monkeypatch).edits == ()


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    _mutation(
        "a scale takes factors from in front",
        "links.py",
        "if own is None else own[1]\n        self.layers",
        "if True else own[1]\n        self.layers",
    ),
    _mutation("scales are ones at first", "borders.py", "np.ones(shape", "2 * np.ones(shape"),
    _mutation(
        "all readers read what is scaled",
        "borders.py",
        "for use in uses:\n            use",
        "for use in uses[:1]:\n            use",
    ),
    _mutation("the model given is copied", "borders.py", "copy = model.clone()", "copy = model"),
    _mutation("outputs stay what they are", "borders.py", "or value.is_graph_output() ", ""),
    _mutation(
        "what int8 reads is not scaled",
        "borders.py",
        "op(use.node) in LAYERS or is_candidate(use.node, constants)",
        "0",
    ),
    _mutation(
        "where factors pass nothing is scaled", "borders.py", "if any(_stops(use.node, links) for", "if any(1 for"
    ),
    _mutation("a scale is no layer behind", "borders.py", " if op(layer.node) in LAYERS}", "}"),
    _mutation("only those named", "borders.py", "if only is not None and", "if False and"),
    _mutation("uneven is a bit in the mean", "borders.py", "WORTH_BITS = 1.0", "WORTH_BITS = 0.3"),
    _mutation("what is left makes a hundredth", "border_noise.py", "REST = 0.01", "REST = 0.0"),
    _mutation("the noisiest first", "border_noise.py", "(-noise[each], each)", "(noise[each], each)"),
    _mutation(
        "whoever reads reads the pair", "border_noise.py", "with(use.idx, back.outputs[0])", "with(use.idx, value)"
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_scales_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.border_claims", tmp_path)
