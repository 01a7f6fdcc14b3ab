"""Corrected biases: the mean of every channel is float32's, of every kind of layer, by the float64 interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import pairs_of, why_no_shift
from normexport.precision.int8.quantise import quantize
from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import bias_claims
from tests.precision.int8.linked_graphs import Graph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("claim", bias_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("kind", bias_claims.KINDS)
def test_the_mean_of_every_channel_is_right_again_in_symmetric_models(kind: str) -> None:
    bias_claims.check_one_layer(kind, symmetric=True)


@settings(max_examples=10)
@given(seed=st.integers(10, 2**16), symmetric=st.booleans(), final=st.sampled_from(["Relu", "Sigmoid"]))
def test_the_means_behind_layers_that_clip_are_right_in_the_int8_model_itself(
    seed: int, symmetric: bool, final: str
) -> None:
    bias_claims.check_chain(seed, symmetric, final)


def test_layers_without_a_bias_to_correct_say_why() -> None:
    g = Graph(0, (2, 3, 4), np.float32)
    model = g.model(g.matmul("x", 5))
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    pairs = pairs_of(model, plain)
    assert why_no_shift(pairs[0].node) == "MatMul 'MatMul0' has no bias"
    assert mean_errors_in_sequence(model, plain, [{"x": x}]) == mean_errors_by_layer(model, pairs, [{"x": x}]) == {}


def _mutation(claim: str, old: str, new: str, file: str = "precision/int8/bias_correction.py") -> Mutation:
    return Mutation(claim, file, old, new)


_BY_LAYER = "precision/int8/bias_by_layer.py"


MUTATIONS = (
    _mutation("what reads a layer reads it corrected", "use.node.replace_input_with(use.idx, corrected)", "pass"),
    _mutation("the error is float32 less int8", '"Sub", [exact, found]', '"Sub", [found, exact]', "graphs/probe.py"),
    _mutation("channels are kept apart", "if each != axis]", "]"),
    _mutation("batches count by their samples", "+ count * values", "+ values"),
    _mutation("a layer computes the mean of samples", "[int(transposed)]", "[1 - int(transposed)]", _BY_LAYER),
    _mutation("columns are samples where they are rows transposed", "[int(transposed)]", "[0]", _BY_LAYER),
    _mutation(
        "the model given is copied", "both, other = model.clone(), quantised.clone()", "both, other = model, quantised"
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim)
def test_breaking_a_rule_of_the_correction_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.bias_claims", tmp_path)


def test_an_input_that_is_an_output_too_changes_nothing() -> None:
    model, x = bias_claims.one_layer("conv")
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    (expected,) = mean_errors_in_sequence(model, plain, [{"x": x}]).values()
    for each in (model, plain):
        each.graph.outputs.append(each.graph.inputs[0])
    (found,) = mean_errors_in_sequence(model, plain, [{"x": x}]).values()
    np.testing.assert_array_equal(found, expected)


def test_a_number_that_a_caller_may_replace_changes_nothing() -> None:
    """Old exporters list stored numbers among the inputs: both models read the one that is there."""
    model, x = bias_claims.one_layer("conv")
    found = []
    for listed in (False, True):
        graph = ir.to_proto(model)
        graph.graph.initializer.append(numpy_helper.from_array(np.array(-0.25, np.float32), "low"))
        graph.graph.node.append(helper.make_node("Clip", [graph.graph.output[0].name, "low"], ["clipped"]))
        graph.graph.output[0].name = "clipped"
        if listed:
            graph.graph.input.append(helper.make_tensor_value_info("low", onnx.TensorProto.FLOAT, []))
        made = ir.from_proto(graph)
        plain = quantize(made, calibrate(made, [{"x": x}], "minmax").ranges).model
        found.append(mean_errors_in_sequence(made, plain, [{"x": x}]))
    assert found[0].keys() == found[1].keys() != set()
    for name, error in found[0].items():
        np.testing.assert_array_equal(found[1][name], error)
