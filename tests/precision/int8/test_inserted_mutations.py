"""Breaking a rule of what stands around pairs is noticed: shields, Clips, fresh names, what stays float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import inserted_claims

pytestmark = pytest.mark.slow


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    # ---- float layers between int8 ones have a shield
    _mutation(
        "layers alone have a shield", "float_layers.py", "op(node) not in LAYERS or read is None", "read is None"
    ),
    _mutation("int8 layers have none", "float_layers.py", " or not is_stored(weight):", ":"),
    _mutation(
        "what reads floats has none",
        "float_layers.py",
        "        if not _is_dequantised(read):\n            continue\n",
        "",
    ),
    _mutation("a shield is of its layer", "float_layers.py", "shield.metadata_props.update(", "dict().update("),
    _mutation("a shield holds no norm", "float_layers.py", " if key != FOLDED}", "}"),
    _mutation("a pair acts through a pool", "float_layers.py", '_MOVES = ("MaxPool", ', "_MOVES = ("),
    _mutation("a pair acts through a pad", "float_layers.py", '"MaxPool", "Pad", ', '"MaxPool", '),
    _mutation(
        "a pair does not act through what computes", "float_layers.py", "if op(node) not in _MOVES:", "if False:"
    ),
    _mutation(
        "a shield has a type",
        "float_layers.py",
        'fresh(f"{read.name}_float"), read.type,',
        'fresh(f"{read.name}_float"), None,',
    ),
    _mutation("a shield has a shape", "float_layers.py", "read.type, read.shape", "read.type, None"),
    _mutation("a layer reads its shield", "float_layers.py", "        node.replace_input_with(0, made)\n", ""),
    # ---- which numbers a Clip keeps
    _mutation("a ReLU ends at zero", "clips.py", "return 0.0, np.inf", "return -np.inf, np.inf"),
    _mutation("an end may be an attribute", "clips.py", 'get_float("min", -np.inf)', 'get_float("least", -np.inf)'),
    _mutation("the upper end too", "clips.py", 'get_float("max", np.inf)', 'get_float("most", np.inf)'),
    _mutation("ends are in their order", "clips.py", "ends[index - 1] = ", "ends[index - 2] = "),
    _mutation("what a caller may change is not known", "clips.py", " if not value.is_graph_input() else None", ""),
    _mutation("one reader alone clips", "clips.py", "len(uses) == 1 and", "len(uses) > 0 and"),
    _mutation("an end is not what is clipped", "clips.py", "uses[0].idx == 0 and", ""),
    _mutation("other functions do not clip", "clips.py", "op(uses[0].node) in CLIPS and", ""),
    _mutation("an output is read by others", "clips.py", " and not value.is_graph_output()", ""),
    # ---- what is inserted
    _mutation(
        "constants have fresh names",
        "additions.py",
        "add_initializer(self.graph, self.fresh(name), array)",
        "add_initializer(self.graph, name, array)",
    ),
    _mutation(
        "results have fresh names",
        "additions.py",
        'result.name = self.fresh(f"{of.name}_{operator}_Output")',
        'result.name = f"{of.name}_{operator}_Output"',
    ),
    _mutation(
        "scales lie along their axis",
        "additions.py",
        "[] if axis is None else [ir.AttrInt64",
        "[] if True else [ir.AttrInt64",
    ),
    _mutation(
        "a constant comes before its reader",
        "additions.py",
        "insert_before(reader, node)",
        "insert_after(reader, node)",
    ),
    # ---- what stays float32
    _mutation(
        "what no layer reads stays float32",
        "quantise.py",
        "        chosen = _in_front_of_layers(chosen)\n",
        "        pass\n",
    ),
)


@pytest.mark.parametrize("claim", inserted_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_what_is_inserted_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.inserted_claims", tmp_path)
