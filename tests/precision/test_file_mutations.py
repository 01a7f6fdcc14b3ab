"""Breaking a rule of what a file's precision follows from is noticed: a wrong one judges by a coarser tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import Mutation, check_noticed

pytestmark = pytest.mark.slow


def _mutation(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/file_precision.py", old, new)


MUTATIONS = (
    # ---- what an output follows from
    _mutation(
        "what no output follows from does not count",
        "return found if found == FLOAT32.name else _precision_in(_without_unused(model))",
        "return found",
    ),
    _mutation("the caller's model stays", "copy = model.clone()", "copy = model"),
    _mutation(
        "branches count",
        "    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))\n",
        "    nodes = list(model.graph)\n",
    ),
    _mutation("norms on integers are quantised", 'node.op_type.startswith("Q"))', "False)"),
    _mutation("norms of others are not", "(node.domain == DOMAIN and node", "(True and node"),
    _mutation("float8 is told from int8", "FLOAT8.name if any(map(_is_float8, quantised)) else", "INT8.name if 1 else"),
    _mutation("the type that a quantiser names counts", "told == FLOAT8.onnx or any(", "any("),
    _mutation(
        "that of its zero points counts too", " or any(value is not None and value.dtype == FLOAT8.ir", " or any(False"
    ),
    _mutation("the coarser of two counts", "return max(kinds, key", "return min(kinds, key"),
    _mutation(
        "weights count",
        "in model.graph.initializers.values() if value.const_value is not None}",
        "in model.graph.initializers.values() if False and value.const_value is not None}",
    ),
    _mutation("what a Cast makes counts", 'if op(node) == "Cast"}', 'if op(node) == "Cost"}'),
    # ---- what may be reduced
    _mutation("numbers are counted, not tensors", "numbers[kind] += size", "numbers[kind] += 1"),
    _mutation("as many float32 numbers are enough", "(numbers[kind], kind is FLOAT32)", "numbers[kind]"),
    _mutation("a scalar is no weight", "held.size > 1:", "held.size > 0:"),
    _mutation("weights that are widened are float32", "kind.is_half and _is_widened(value)", "False"),
    _mutation("double ones are not", "kind.is_half and _is_widened(value)", "kind is not None"),
    _mutation(
        "widened by all that read them",
        "return bool(readers) and not value.is_graph_output() and all(",
        "return bool(readers) and not value.is_graph_output() and any(",
    ),
    _mutation("widened by a Cast", 'if op(node) == "Cast" else 0 for node in readers', "for node in readers"),
    _mutation("what nothing reads is not widened", "return bool(readers) and ", "return "),
    _mutation("an output is not widened", " and not value.is_graph_output() and", " and"),
    _mutation("weights in nodes count", "constants.append((node.outputs[0], tensor.as_tensor()))", "pass"),
    _mutation("weights in branches count", "for graph in model.graphs():", "for graph in (model.graph,):"),
    _mutation("another precision is offered for half files alone", "if most.is_half else", "if True else"),
    _mutation("quantisation comes first", "    refuse_quantized(model)\n    numbers", "    numbers"),
    # ---- what pairs hold
    _mutation("an input's lowest number", "(limits.min - int(zero))", "(limits.min + int(zero))"),
    _mutation("an input's highest number", "(limits.max - int(zero))", "(limits.max + int(zero))"),
    _mutation("the largest number of float8", "FLOAT8.largest * ", "127 * "),
    _mutation("float8 has a sign", "(-most, most)", "(0.0, most)"),
    _mutation("scales of channels say nothing", "tensor is None or tensor.size != 1 for", "tensor is None for"),
    _mutation("a pair has two parts", 'if op(reader) == "DequantizeLinear" and', "if"),
    _mutation("a quantiser begins it", 'node.inputs[0] if op(node) == "QuantizeLinear" and', "node.inputs[0] if"),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_precision_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.file_claims", tmp_path)
