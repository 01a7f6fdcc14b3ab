"""Breaking a rule that a verdict rests on is noticed: luck, what no input reaches, candidates that do not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.proof import verdict_claims

pytestmark = pytest.mark.slow


def _luck(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/luck.py", old, new)


def _exercised(claim: str, old: str, new: str, file: str = "questions") -> Mutation:
    return Mutation(claim, f"proof/exercised/{file}.py", old, new)


def _sort(claim: str, old: str, new: str) -> Mutation:
    return _exercised(claim, old, new, "sorts")


MUTATIONS = (
    # ---- a budget that was small by luck
    _luck("a fault is no luck", "row.fault is None and row.excess", "row.excess"),
    _luck("far out is no luck", " and row.excess <= _NEAR", ""),
    _luck("what is within is no miss", "bool(out) and all(", "all("),
    _luck(
        "boundaries are looked at too",
        "out = [row for row in (*report.outputs, *report.layers)",
        "out = [row for row in report.outputs",
    ),
    _luck("a tensor that the other did not judge stays out", "lucky = bool(by_other) and all", "lucky = all"),
    _luck("what was within stays as it was", " and not all(row.within for row in own)\n", "\n"),
    _luck(
        "all that is out must be settled",
        "        if all(row.within for row in (",
        "        if any(row.within for row in (",
    ),
    _luck("boundaries are settled too", "layers=_with_luck(settled.layers, other.layers)", "layers=other.layers"),
    _luck(
        "what is left out stays out", "    return report\n\n\ndef _with_luck", "    return settled\n\n\ndef _with_luck"
    ),
    _luck(
        "boundaries of one tensor are told apart", "(row.tensor, row.path, row.type), []", "(row.tensor, '', ''), []"
    ),
    _luck(
        "no more baselines run than it takes",
        "            return replace(settled, notes",
        "            settled = replace(settled, notes",
    ),
    _luck("the note counts the baselines", "        count += 1\n", ""),
    # ---- what no input reaches
    _exercised("all batches count", "seen[name].append(value)", "seen[name][:] = [value]", "__init__"),
    _exercised("both sides are needed", "if not least < limit < largest:", "if not limit < largest:"),
    _exercised("above is a side too", "if not least < limit < largest:", "if not least < limit:"),
    _exercised("what is met is not crossed", "if not least < limit < largest:", "if not least <= limit <= largest:"),
    _exercised("a NaN hides nothing", "np.fmax.reduce(", "np.maximum.reduce(", "__init__"),
    _sort("a rectifier asks for zero", "found = [0.0] if node.op_type in _AT_ZERO else []", "found = []"),
    _sort("HardSwish has two ends", "found = [-3.0, 3.0]", "found = [-3.0]"),
    _sort("HardSigmoid ends where it is one", "(1 - at_zero) / slope]", "1 / slope]"),
    _sort("HardSigmoid ends where it is zero", "[-at_zero / slope,", "[at_zero / slope,"),
    _sort(
        "attributes of an old Clip are limits", ' for end in ("min", "max") if end in', ' for end in ("max",) if end in'
    ),
    _sort("small limits keep a divisor from zero", "_EPSILON <= abs(each) <=", "abs(each) <="),
    _sort("large limits are a type's", "_EPSILON <= abs(each) <= _LARGE", "_EPSILON <= abs(each)"),
    _sort("zero is a limit", "(each == 0 or _EPSILON", "(_EPSILON"),
    _sort("what sizes decide is not told", "return chooses and node.inputs[0] in numbers", "return chooses"),
    _exercised("boxes that overlap are asked for", 'measure.node("Less", sizes', 'measure.node("Equal", sizes'),
    _sort("limits of channels are not one", "if each is not None and np.ptp(each) == 0]", "if each is not None]"),
    _sort("what known functions keep from a limit is not told", "if low < each < high and (", "if ("),
    _exercised("braces in names are names", '.replace("{", "{{").replace("}", "}}")', ""),
    _sort("what limits is not what is limited", " and not _is_constant(value)), None)", "), None)"),
    _exercised("each channel has its own limit", "_axes(None if shapes is None else shapes.rank(limit), each)", "None"),
    _exercised("a step that rounds all to one is told", "if not least < largest:", "if False:"),
    _sort("a number made whole is a step", "return to_whole and not", "return False and not"),
    _sort("a remainder is a step", '(*_STEPS, "Mod")', "_STEPS"),
    _exercised("of a remainder what it takes off counts", 'if node.op_type == "Mod" else', "if False else"),
    _exercised("beyond a bend all is flat", "largest > low and least < high and max", "max"),
    _exercised("near its middle all is straight", " and max(abs(least), abs(largest)) > straight)", ")"),
    _sort(
        "limits that are computed are values", "value is not None and not _is_constant(value)]\n", "value is None]\n"
    ),
    _sort(
        "what is stacked and reduced is chosen",
        "return [value for value in joined.inputs if value is not None] if along",
        "return [] if along",
    ),
    _exercised("one of which none is the one is told", "if not least <= 0 <= largest:", "if False:"),
    _exercised("a factor that never varies is told", "if share <= _NEARLY * _NOTHING:", "if False:"),
    _exercised("an addend that is nothing is told", "if added <= _NEARLY * _NOTHING * other:", "if False:"),
    _exercised("what is nearly nothing says so", "nearly=added > _NOTHING * other", "nearly=False"),
    _exercised(
        "bodies are asked",
        "in node.attributes.items() if isinstance(each.value, ir.Graph)}",
        "in node.attributes.items() if each is None}",
    ),
    _exercised(
        "what is never run says nothing", "        return []  # a body that", "        pass  # a body that", "__init__"
    ),
    _exercised("what can't be measured hides no other", "_TRIES = 32", "_TRIES = 1", "__init__"),
    _exercised(
        "that one file is near it is counted", "[x for x in of_second if not x.nearly]", "of_second", "__init__"
    ),
    _exercised("a body measures all its rounds", "_NONE[kind]], np.float32)", "0.0], np.float32)", "measures"),
    _sort("Softplus is straight from 15 on", "limit >= _STRAIGHT", "limit > 0"),
    _sort("what is taken for it is its own number", " and small.inputs[0] is x", ""),
    _sort("a Softplus with a limit is no condition", "        return False\n    chooses", "        pass\n    chooses"),
    Mutation(
        "what follows from a type is no number",
        "proof/doubts/branches.py",
        'return node.inputs[:1] if node.op_type == "CastLike" else',
        "return",
    ),
    # ---- whole numbers, and what does not run
    Mutation(
        "whole numbers are compared in their own types",
        "proof/metrics.py",
        "np.count_nonzero(value != reference)",
        "np.count_nonzero(_float64(value) != _float64(reference))",
    ),
    Mutation(
        "whole numbers that differ are one apart at least",
        "proof/metrics.py",
        "max_abs=max(errors.max_abs, float(differ > 0))",
        "max_abs=errors.max_abs",
    ),
    Mutation(
        "what does not run where the reference does fails",
        "proof/not_run.py",
        "if not 0 < len(refused) < len(batches):",
        "if True:",
    ),
    Mutation(
        "what runs on nothing is an error", "proof/not_run.py", "if not 0 < len(refused) < len(batches):", "if False:"
    ),
    Mutation(
        "inputs that the reference refuses are an error",
        "proof/not_run.py",
        "            runtime.run(at.feeds)\n",
        "            runtime.output_names\n",
    ),
    Mutation(
        "inputs that the baseline refuses are an error",
        "proof/not_run.py",
        "for runtime in (exact, own):",
        "for runtime in (exact,):",
    ),
)


@pytest.mark.parametrize("claim", verdict_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_verdicts_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.proof.verdict_claims", tmp_path)
