"""Random networks through folding, half precision and int8; the campaign beside this file tries thousands."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from normexport import norms
from normexport.runtime import OnnxRuntime
from tests.folding.choices import SeededChoices
from tests.precision import random_claims
from tests.precision.random_claims import (
    Outcome,
    compared,
    invalid,
    judged,
    rounding_everywhere,
    witness,
    worst_baseline,
)
from tests.precision.random_networks import DECK, Network, random_network

pytestmark = pytest.mark.slow

SEEDS = {"fold": 80, "fp16": 10, "fp16-io": 10, "bf16": 10, "int8": 10, "int8-symmetric": 10}


@pytest.mark.parametrize("what", random_claims.CONVERSIONS)
def test_random_networks_come_out_right_or_are_refused_in_words(what: str) -> None:
    kinds = Counter[str]()
    for seed in range(SEEDS[what]):
        outcome = judged(random_network(SeededChoices(seed)), what)
        assert not outcome.is_bad, (seed, outcome.why)
        kinds[outcome.kind] += 1
    assert kinds["right"] >= SEEDS[what] / 3, kinds


def test_networks_are_valid_and_the_witness_agrees_with_onnx_runtime() -> None:
    norms.register_schemas()
    compared_values = 0
    for seed in range(30):
        network = random_network(SeededChoices(seed))
        assert not invalid(network.model), seed
        runtime = OnnxRuntime(network.model)
        got = runtime.run({port.name: network.sample[port.name] for port in runtime.inputs})
        for name, exact in witness(network.model, network.sample).items():
            assert got[name].shape == exact.shape, (seed, name)
            if exact.dtype.kind == "f" and not network.jumps:
                np.testing.assert_allclose(got[name], exact, rtol=0, atol=1e-4 * (np.abs(exact).max() + 1e-6))
                compared_values += exact.size
    assert compared_values > 500


def test_networks_hold_everything_that_they_are_to_hold() -> None:
    operators, opsets, oddities = Counter[str](), Counter[int](), Counter[str]()
    for seed in range(150):
        model = random_network(SeededChoices(seed)).model
        graph = model.graph
        operators.update(node.op_type for node in graph.node)
        opsets.update(each.version for each in model.opset_import if not each.domain)
        stored, inputs = {each.name for each in graph.initializer}, {each.name for each in graph.input}
        outputs = [each.name for each in graph.output]
        oddities.update(
            {
                "several outputs": len(outputs) > 1,
                "several inputs": len(inputs - stored) > 1,
                "stored output": bool(stored & set(outputs)),
                "stored input": bool(stored & inputs),
                "input as output": bool(inputs & set(outputs)),
                "unnamed nodes": any(not node.name for node in graph.node),
                "unicode": any(not name.isascii() for name in stored | inputs),
                "open batch": any(dim.dim_param for each in graph.input for dim in each.type.tensor_type.shape.dim),
                "scalar constant": any(not each.dims for each in graph.initializer),
                "shapes inside": bool(graph.value_info),
                "function": bool(model.functions),
            }
        )
    assert set(opsets) == set(range(9, 24))
    assert len(operators) > 90, len(operators)
    assert min(oddities.values()) >= 2, oddities
    assert len({step.__name__ for step in DECK}) == len(set(DECK))


@pytest.fixture
def network() -> Network:
    """A network whose outputs are floats, and no small error becomes a large one."""
    for seed in range(100):
        found = random_network(SeededChoices(seed))
        exact = witness(found.model, found.sample)
        if not found.jumps and all(each.dtype.kind == "f" and np.ptp(each) > 0.1 for each in exact.values()):
            return found
    raise AssertionError


@pytest.mark.parametrize("wrong", [1.1, -1.0, np.nan, 0.0])
def test_the_claims_catch_one_wrong_number_in_any_output(network: Network, wrong: float) -> None:
    exact = witness(network.model, network.sample)
    baseline = worst_baseline(network, "float16", exact)
    assert compared(network, exact, exact, baseline, 6.0, 2.0**-7) == Outcome("right")
    for name, array in exact.items():
        broken = array.copy()
        broken.flat[np.abs(broken).argmax()] *= wrong
        outcome = compared(network, exact, {**exact, name: broken}, baseline, 6.0, 2.0**-7)
        assert outcome.is_bad
        assert name in outcome.why


@pytest.mark.parametrize("dtype", [np.float16])
def test_the_baseline_rounds_every_value_and_keeps_the_names(network: Network, dtype: type[np.float16]) -> None:
    rounded = rounding_everywhere(network.model, onnx.TensorProto.FLOAT16)
    assert not invalid(rounded)
    runtime = OnnxRuntime(rounded)
    got = runtime.run({port.name: network.sample[port.name] for port in runtime.inputs})
    assert set(got) == {each.name for each in network.model.graph.output}
    given = {each.name for each in (*network.model.graph.input, *network.model.graph.initializer)}
    for name in set(got) - given:
        np.testing.assert_array_equal(got[name].astype(dtype).astype(np.float32), got[name])
