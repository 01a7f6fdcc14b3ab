"""Breaking a rule of what a candidate is tried at is noticed: numbers asked for, guards, sweeps, what is borne."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.proof.inputs import input_claims

pytestmark = pytest.mark.slow


def _following(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/inputs/following.py", old, new)


def _compared(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/inputs/compared.py", old, new)


def _sweep(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/inputs/sweep.py", old, new)


def _bearing(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "proof/inputs/bearing.py", old, new)


MUTATIONS = (
    # ---- where numbers arrive
    _following("a truth value is no number", "if _asks_whether(node, position):", "if False:"),
    _following("a condition is no number", '(node.op_type == "Where" and position == 0)', "False"),
    _following("a Where may put others in its place", "and kind not in _CHOOSE", ""),
    _following("few bits hold few numbers", "and not _narrows(node)", ""),
    _following(
        "what is not whole stays so", "partial(Reached, output, whole=reached.whole)", "partial(Reached, output)"
    ),
    _following("a Neg turns the ends round", "made(-factor, -most, -least)", "made(-factor, -least, -most)"),
    _following("a Sub takes off the largest", "least - high, most - low", "least - low, most - high"),
    _following("a number less the input turns it round", "made(-factor, low - most,", "made(factor, low - most,"),
    _following("a Div divides", 'scale = 1 / low if node.op_type == "Div" else low', "scale = low"),
    _following("ends are scaled too", "sorted((least * scale, most * scale))", "sorted((least, most))"),
    _following("factors that differ are no factor", "if low != high or not low or", "if not low or"),
    _following("times nothing is nothing", "if low != high or not low or", "if low != high or"),
    _following("a divisor is not followed", ' or (node.op_type == "Div" and position):', ":"),
    _following("what is not linear stays so", "    if not reached.linear:\n        return lost\n", ""),
    _following("infinite constants are none", " and np.isfinite(numbers).all() else None", " else None"),
    _following(
        "other domains hand on nothing",
        "            if not is_onnx_domain(node.domain):\n                continue\n",
        "",
    ),
    # ---- which of them bind an input
    Mutation(
        "a guarded table binds nothing",
        "proof/inputs/integer_bounds.py",
        "elif (reached.whole or guarded) and",
        "elif True and",
    ),
    Mutation(
        "a guarded table is swept all the same",
        "proof/inputs/ladder.py",
        "rows = integer_bounds(graph, guarded=True)",
        "rows = bounds",
    ),
    # ---- numbers that are asked for
    _compared("floats are asked for on both sides", "(x - margin / abs(reached.factor), x + margin", "(x, x + margin"),
    _compared("whole numbers themselves are asked for", "        if not floating:\n            yield from ends\n", ""),
    _compared("equal floats are asked for as they came", "(not floating or _is_as_it_came(reached))", "not floating"),
    _compared("zero is asked for unsaid", "[0.0] if _asks_for_zero(node) and position == 0 else []", "[]"),
    _compared("attributes are limits", "_LIMITS.get(node.op_type, ()))", "())"),
    _compared("limits of a type are none", "if floating and abs(c) > _LARGE:", "if False:"),
    _compared(
        "NaN is asked for by itself", 'node.op_type == "Equal" and node.inputs[0] is', "False and node.inputs[0] is"
    ),
    _compared("infinities are asked for", '"IsNaN" if math.isnan(value) else "IsInf"', '"IsNaN"'),
    _compared("declared bounds hold", "if spec.bounds is not None and not", "if False and not"),
    _compared("bounds of the graph hold below", "(low is None or low <= number) and", ""),
    _compared("bounds of the graph hold above", " and (high is None or number <= high)", ""),
    _compared("types hold their numbers", "return whole if least <= whole <= most else None", "return whole"),
    _compared("half types hold less", "HALVES[spec.dtype].largest if spec.dtype in HALVES else", ""),
    _compared("ends stay where many are thinned out", "np.linspace(0, len(numbers) - 1, most)", "np.arange(most)"),
    _compared("other inputs stay", "feeds={**pattern.feeds, spec.name: as_read", "feeds={spec.name: as_read"),
    _compared(
        "every number stands somewhere",
        "np.resize(np.asarray(part, array.dtype)",
        "np.resize(np.asarray(part[:1], array.dtype)",
    ),
    _compared("equal inputs are so in places alone", "random(ours.shape) < 1 / 2", "random(ours.shape) < 2"),
    _compared("pairs have one shape", "first.sized(1) == second.sized(1) and", ""),
    _compared("pairs are of the same input twice never", "if len(set(names)) == 2 and", "if"),
    _compared("numbers are tried one by one where they break", "if alone else [whole]", "if False else [whole]"),
    _compared("inputs are tried apart where they break", "    if not one_by_one:\n", "    if True:\n"),
    _compared(
        "NaN is fed alone",
        "numbers = asked[spec.name]\n        whole = [number for number in numbers if math.isfinite(number)]",
        "numbers = asked[spec.name]\n        whole = [*numbers]",
    ),
    _compared("rows that differ are asked for", "found |= set(_differing_rows(starts))", "pass"),
    _compared("rows that differ most come first", "np.argsort(-differences", "np.argsort(differences"),
    # ---- rows and bytes
    _sweep(
        "what is fed is not fed again",
        "np.setdiff1d(np.arange(span[0], span[1] + 1), fed)",
        "np.arange(span[0], span[1] + 1)",
    ),
    _sweep("the last row is a row", "np.arange(span[0], span[1] + 1)", "np.arange(span[0], span[1])"),
    _sweep("too much is told", "            words.append(", "            print("),
    _sweep("too many batches are none", "len(made) <= _MOST_BATCHES) or", "True) or"),
    _sweep("what takes too long is not fed", "if samples * weights <= _MOST_WORK and", "if"),
    _sweep(
        "tables beyond all memory are not counted out", " and count - len(fed) <= _MOST_BATCHES * _MOST_NUMBERS:", ":"
    ),
    _sweep("sizes are not swept", "or (bound is not None and bound.is_size):", ":"),
    _sweep("a byte keeps the end that it has", "int(limits.min) if low is None else low", "int(limits.min)"),
    _sweep(
        "declared bounds hold",
        "    if spec.bounds is not None:\n        low, high = max",
        "    if False:\n        low, high = max",
    ),
    _sweep("a fixed batch stays", "    if not spec.batched:\n        return max", "    if False:\n        return max"),
    _sweep(
        "sizes that are asked for are kept", "_size(spec, specs, min(most, _MOST", "_size(spec, specs, min(256, _MOST"
    ),
    _sweep("each number is fed once", "part = numbers[start : start + step]", "part = numbers[:step]"),
    # ---- what a reference bears
    _bearing(
        "where it breaks at once nothing is said",
        "    if isinstance(before, str):\n        return set()\n",
        "    before = {} if isinstance(before, str) else before\n",
    ),
    _bearing("float64 counts", "    if exact is not None:\n", "    if False:\n"),
    _bearing("the lowest range sets what is allowed", "return max(_STEADY, _WORSE * lowest)", "return _STEADY"),
    _bearing("little is always allowed", "return max(_STEADY, _WORSE * lowest)", "return _WORSE * lowest"),
    _bearing(
        "an error that is no number breaks",
        "if not difference(reference, outputs) <= allowed}",
        "if difference(reference, outputs) > allowed and difference(reference, outputs) < 1e9}",
    ),
    _bearing("what was not finite may stay so", "if np.isfinite(lowest).all() and not", "if not"),
    _bearing(
        "what was finite must stay so",
        "if np.isfinite(lowest).all() and not np.isfinite(outputs[name]).all():",
        "if False:",
    ),
    _bearing("the worst output counts", "worst = max(worst, share", "worst = min(worst, share"),
    _bearing("other shapes are far off", " or own[name].shape != value.shape:", ":"),
    _bearing(
        "of whole numbers a share counts",
        "errors.relative_rms if errors.floating else errors.rms",
        "errors.relative_rms",
    ),
    _bearing(
        "infinities on either side are left out", "np.isfinite(value) & np.isfinite(own[name])", "np.isfinite(value)"
    ),
    _bearing(
        "other types are read as float32", 'value if value.dtype.kind in "fiub" else value.astype(np.float32)', "value"
    ),
)


@pytest.mark.parametrize("claim", input_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_inputs_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.proof.inputs.input_claims", tmp_path)
