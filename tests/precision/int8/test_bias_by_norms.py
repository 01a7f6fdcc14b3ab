"""Biases corrected by norms alone: mean errors by PyTorch in float64, and a network that no data has corrected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.errors import MissingComponent
from normexport.folding import fold
from normexport.graphs.shapes import Shapes
from normexport.onnx_export import InputSpec
from normexport.precision import Fp8, Int8, Judged
from normexport.precision.int8 import edits, edits_by_norms
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_by_norms import mean_errors_by_norms
from normexport.precision.int8.corrections import pairs_of
from normexport.precision.int8.edits_by_norms import improve_by_norms
from normexport.precision.int8.equalise import Equalised
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.int8.quantise import quantize
from normexport.precision.reduce import reduce_precision
from normexport.runtime import OnnxRuntime
from tests.claims import Claim
from tests.folding.build import GraphBuilder
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import norm_bias_claims as claims
from tests.precision.int8.test_from_norms import DATA, MODEL, SPEC, images


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@settings(max_examples=15)
@given(kind=st.sampled_from([*claims.KINDS, "gemm", "transposed"]), seed=st.integers(20, 2**16))
def test_mean_errors_of_constant_channels_are_exact(kind: str, seed: int) -> None:
    claims.check_numbers(kind, seed)


def test_the_errors_are_those_that_data_show() -> None:
    known = calibrate_by_norms(MODEL, [SPEC])
    pairs = pairs_of(MODEL, quantize(MODEL, known.calibration.ranges).model)
    read = {pair.read: known.tensors[pair.read] for pair in pairs}  # not what they make, so that none is too small
    found = mean_errors_by_norms(Shapes(MODEL), pairs, read)
    seen = mean_errors_by_layer(MODEL, [replace(pair, source=None) for pair in pairs], [{"x": DATA}])
    assert len(found) == 2  # of three: the norms say nothing of the image
    for name, error in found.items():
        most = (
            0.1 if name.startswith("batchnormalization") else 0.01
        )  # the first reads a pool, of pixels that are alike
        assert np.square(error - seen[name]).sum() < most * np.square(seen[name]).sum()


def depthwise(data: np.ndarray) -> ir.Model:
    """Convolution, norm, ReLU, depthwise convolution, norm, ReLU, mean, linear; the norms know `data`."""
    graph, dice = GraphBuilder(np.float32), np.random.default_rng(2)
    value = graph.input(("N", 3, 16, 16))
    for shape, groups in (((24, 3, 3, 3), 1), ((24, 1, 3, 3), 24)):
        weight = graph.const(dice.normal(0.2, 0.3, shape))
        value = graph.node("Conv", [value, weight], pads=[1, 1, 1, 1], group=groups)
        graph.output(value)
        seen = next(iter(OnnxRuntime(ir.from_proto(graph.model())).run({"x": data}).values()))
        graph.outputs.clear()
        affine = np.ones(24), np.ones(24), seen.mean(axis=(0, 2, 3)), seen.var(axis=(0, 2, 3))
        value = graph.node("BatchNormalization", [value, *(graph.const(each) for each in affine)])
        value = graph.node("Relu", [value])
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])])
    graph.output(graph.node("Gemm", [value, graph.const(dice.normal(0, 1, (24, 10)) ** 3)]))
    return fold(ir.from_proto(graph.model())).model


DEPTHWISE = depthwise(DATA)


def test_errors_that_are_lost_in_the_steps_of_int8_are_left_alone() -> None:
    known = calibrate_by_norms(DEPTHWISE, [SPEC])
    pairs = pairs_of(DEPTHWISE, quantize(DEPTHWISE, known.calibration.ranges).model)
    whole = mean_errors_by_norms(Shapes(DEPTHWISE), pairs, {pair.read: known.tensors[pair.read] for pair in pairs})
    found = mean_errors_by_norms(Shapes(DEPTHWISE), pairs, known.tensors)
    sizes = {
        name: np.sqrt(np.square(error).mean() / known.tensors[name].spread.variance.mean())
        for name, error in whole.items()
    }
    assert set(found) == {name for name, size in sizes.items() if size > 0.007} != set()


@pytest.mark.parametrize("config", [Int8, Fp8])
def test_where_nothing_is_drawn_biases_take_what_the_norms_tell(config: type[Int8 | Fp8]) -> None:
    def refuse(*_: object) -> None:
        raise MissingComponent.of("onnxruntime", "cpu")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits_by_norms, "draw_samples", refuse)
        plain = reduce_precision(DEPTHWISE, config(method="norms", effort="none"), [SPEC])
        corrected = reduce_precision(DEPTHWISE, config(method="norms"), [SPEC])
    assert plain.precision.edits == ()
    (edit,) = (each for each in corrected.precision.edits if each.kept)
    assert (edit.name, edit.before_db, edit.after_db) == ("biases corrected", None, None)
    assert edit.layers in (1, 2)  # of three: nothing is known of the image
    assert edit.reasons[0] == "by what the norms tell; no data measured it"
    assert edit.reasons[1].startswith("no samples can be drawn to fit it on: ")
    assert any("no norm tells the mean of what Conv" in reason for reason in edit.reasons)
    others = {each.name: each.reasons for each in corrected.precision.edits if not each.kept}
    assert others == {
        "equalised": ("no data is there to measure it on",),
        "biases absorbed": ("no norm tells what a channel has at least",),
    }
    before, after = (next(iter(OnnxRuntime(each.model).run({"x": DATA}).values())) for each in (plain, corrected))
    assert np.abs(before - after).max() > 0


def test_data_that_judges_decides_whether_the_correction_is_kept() -> None:
    reduced = reduce_precision(
        DEPTHWISE, Int8(method="norms", min_snr=-np.inf), [SPEC], judged=Judged({"x": images(64)})
    )
    (edit,) = (each for each in reduced.precision.edits if each.name == "biases corrected")
    assert edit.before_db is not None
    assert edit.after_db is not None
    assert edit.kept == (edit.after_db > edit.before_db + 0.1)


LEVELS = (((21.0, 20.5, 20.0), "worth it"), ((19.0, 20.5, 20.0), "all"), ((20.05, 19.0, 20.0), "none"))


@pytest.mark.parametrize(("levels", "kept"), LEVELS)
def test_of_all_errors_and_those_worth_it_the_better_is_kept(levels: tuple[float, ...], kept: str) -> None:
    """Levels of the model with either correction, and without, as data would measure them."""
    known = calibrate_by_norms(DEPTHWISE, [SPEC])
    left = list(levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits, "equalise", lambda model, *_, **__: Equalised(model, (), {}))
        found = improve_by_norms(DEPTHWISE, known, Int8(method="norms"), lambda _: left.pop(0))
    pairs, shapes = pairs_of(DEPTHWISE, quantize(DEPTHWISE, known.calibration.ranges).model), Shapes(DEPTHWISE)
    few = mean_errors_by_norms(shapes, pairs, known.tensors)
    every = mean_errors_by_norms(shapes, pairs, known.tensors, worth=0.0)
    assert set() != set(few) < set(every)
    assert not left
    assert set(found.corrections.shifts) == {"worth it": set(few), "all": set(every), "none": set()}[kept]
    (edit,) = (each for each in found.edits if each.name == "biases corrected")
    assert (edit.kept, edit.before_db, edit.after_db) == (kept != "none", 20.0, max(levels[:2]))
    assert found.alone is found.corrections  # fitted to each layer by itself


def test_declared_bounds_tell_no_mean_behind_the_input() -> None:
    spec = InputSpec("x", (3, 16, 16), bounds=(0.0, 1.0))
    found = improve_by_norms(DEPTHWISE, calibrate_by_norms(DEPTHWISE, [spec]), Int8(method="norms"), None)
    (edit,) = (each for each in found.edits if each.kept)
    assert edit.layers in (1, 2)


def _mutation(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/bias_by_norms.py", old, new)


MUTATIONS = (
    _mutation("the error is float32 less int8", "weight - rounded, means", "rounded - weight, means"),
    _mutation("bounds say nothing of a mean", ' or tensor.origin == "bound"', ""),
    _mutation("padding is not the input", "((at >= 0) & (at < size))", "(at >= -size)"),
    _mutation("strides count", "[:, None] * steps[axis]", "[:, None]"),
    _mutation("dilations count", "np.arange(width) * gaps[axis]", "np.arange(width)"),
    _mutation("a transposed layer's places have one tap of several", "np.full(taps, 1 / math", "np.full(taps, math"),
    _mutation("small errors are left alone", "_WORTH = 0.007", "_WORTH = 0.7"),
    _mutation("other channels are mixed", "else spread.mixed()", "else spread"),
    Mutation("neighbours are alike", "precision/int8/spreads.py", "_APART = 0.5", "_APART = 1.0"),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim)
def test_breaking_a_rule_of_the_correction_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.norm_bias_claims", tmp_path)
