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


def _exercised(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/exercised.py", old, new)


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
    _exercised(
        "all batches count", "value.reshape(-1)[:1].tolist()", "value.reshape(-1)[:1].tolist() * (not ends[name])"
    ),
    _exercised("both sides are needed", "if not least < limit < largest:", "if not limit < largest:"),
    _exercised("above is a side too", "if not least < limit < largest:", "if not least < limit:"),
    _exercised("what is met is not crossed", "if not least < limit < largest:", "if not least <= limit <= largest:"),
    _exercised("a NaN hides nothing", "np.fmax.reduce(", "np.maximum.reduce("),
    _exercised("a rectifier asks for zero", "found = [0.0] if node.op_type in _AT_ZERO else []", "found = []"),
    _exercised("HardSwish has two ends", "found = [-3.0, 3.0]", "found = [-3.0]"),
    _exercised("HardSigmoid ends where it is one", "(1 - at_zero) / slope]", "1 / slope]"),
    _exercised("HardSigmoid ends where it is zero", "[-at_zero / slope,", "[at_zero / slope,"),
    _exercised(
        "attributes of an old Clip are limits", ' for end in ("min", "max") if end in', ' for end in ("max",) if end in'
    ),
    _exercised("small limits keep a divisor from zero", "_EPSILON <= abs(each) <=", "abs(each) <="),
    _exercised("large limits are a type's", "_EPSILON <= abs(each) <= _LARGE", "_EPSILON <= abs(each)"),
    _exercised("zero is a limit", "(each == 0 or _EPSILON", "(_EPSILON"),
    _exercised(
        "what sizes decide is not told", "return chooses and follows_from_numbers(node.inputs[0])", "return chooses"
    ),
    _exercised("boxes that overlap are asked for", 'probe.node("Less", sizes', 'probe.node("Equal", sizes'),
    _exercised("limits of many numbers are none", "if each is not None and each.size == 1]", "if each is not None]"),
    _exercised("what known functions keep from a limit is not told", "if low < each < high and (", "if ("),
    _exercised("braces in names are names", '.replace("{", "{{").replace("}", "}}")', ""),
    _exercised("what limits is not what is limited", " and constant_numbers(value) is None), None)", "), None)"),
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
