"""Breaking a rule of the edits of int8 is noticed: absorbed biases, rounded weights, extremes, norms; who judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import fitted_claims

pytestmark = pytest.mark.slow


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    # ---- high biases
    _mutation(
        "what is taken off in front is taken off",
        "absorb.py",
        "add_to_bias(node, -spare, fresh)",
        "add_to_bias(node, spare, fresh)",
    ),
    _mutation(
        "what layers behind gain goes through their weights",
        "absorb.py",
        "(weight.sum(axis=3) @ spare",
        "(weight.mean(axis=3) @ spare",
    ),
    _mutation("there is room below what was seen", "absorb.py", "ROOM = 0.1", "ROOM = -0.1"),
    _mutation(
        "nothing below zero moves", "absorb.py", "* (seen[1] - seen[0]), 0.0)", "* (seen[1] - seen[0]), -np.inf)"
    ),
    _mutation("the model given is copied", "absorb.py", "copy = model.clone()", "copy = model"),
    _mutation("one ReLU alone reads", "absorb.py", 'or len(uses) != 1 or op(uses[0].node) != "Relu":', "or not uses:"),
    _mutation("an output in front stays", "absorb.py", "if result.is_graph_output() or len", "if len"),
    _mutation("an output behind stays", "absorb.py", "if passed.is_graph_output() or not found:", "if not found:"),
    _mutation("padding is of zeros", "absorb.py", " or _is_padded(use.node)", ""),
    _mutation("a column of a Gemm is no channel", "absorb.py", ' or use.node.attributes.get_int("transA", 0) != 0', ""),
    _mutation("a transposed layer does not read everywhere", "absorb.py", 'op(use.node) == "ConvTranspose" or', ""),
    _mutation(
        "a scaled bias takes no constant",
        "absorb.py",
        "        if why := why_no_shift(use.node):\n            raise Refuse(why)\n",
        "",
    ),
    _mutation(
        "a layer without a bias gives none away",
        "absorb.py",
        "    if why := why_no_shift(node):\n        raise Refuse(why)\n",
        "",
    ),
    # ---- extremes of channels
    _mutation(
        "a NaN spoils its tensor", "extremes.py", "                spoiled.add(name)\n", "                pass\n"
    ),
    _mutation("the lowest of all batches", "extremes.py", "np.minimum(low, found[name][0])", "low"),
    _mutation("the highest of all batches", "extremes.py", "np.maximum(high, found[name][1])", "high"),
    _mutation("channels are kept apart", "extremes.py", " if each != axis]", "]"),
    _mutation(
        "what spoils shows in the mean", "extremes.py", "for each in (low, high, mean)):", "for each in (low,)):"
    ),
    # ---- rounding by least squares
    _mutation("weights are in units of their grid", "rounded.py", "weight / pair.grid", "weight"),
    _mutation(
        "a bias takes the mean error", "rounded.py", "about_mean=not why_no_shift(pair.node)", "about_mean=False"
    ),
    _mutation(
        "without a bias the mean counts", "rounded.py", "about_mean=not why_no_shift(pair.node)", "about_mean=True"
    ),
    _mutation("layers that can't be rounded so are left", "rounded.py", " if not why_no_moments(pair)]", "]"),
    _mutation(
        "what rounding costs is made good",
        "rounding.py",
        "left[:, :, column:stop] -= error",
        "left[:, :, column:stop] -= 0 * error",
    ),
    _mutation("beyond a block too", "rounding.py", "left[:, :, stop:] -= errors", "left[:, :, stop:] -= 0 * errors"),
    _mutation("a row keeps what is better", "rounding.py", "np.where(better[:, :, None], found, nearest)", "found"),
    _mutation("whole numbers end at 127", "rounding.py", "LEVEL = 127.0", "LEVEL = 128.0"),
    _mutation(
        "groups read what they read",
        "rounding.py",
        "((errors @ moments) * errors)",
        "((errors @ moments[:1]) * errors)",
    ),
    # ---- edits by norms
    _mutation("the better of two is kept", "edits_by_norms.py", "best = max(ways", "best = min(ways"),
    _mutation(
        "all errors are tried where data judges",
        "edits_by_norms.py",
        "worth=0.0) if self.level is not None",
        "worth=0.0) if False",
    ),
    _mutation(
        "what is kept is kept of a layer by itself",
        "edits_by_norms.py",
        "drawn.alone if in_turn else best",
        "drawn.alone",
    ),
    _mutation(
        "of which no norm tells is said",
        "edits_by_norms.py",
        '_NO_SAMPLES}: {self.why_none}", *untold)',
        '_NO_SAMPLES}: {self.why_none}")',
    ),
    # ---- which samples judge
    _mutation("every fourth judges", "held_out.py", "EVERY = 4 ", "EVERY = 5 "),
    _mutation("few prove nothing", "held_out.py", "LEAST = 8 ", "LEAST = 7 "),
    _mutation("not all that there are are kept", "held_out.py", "MOST = 64 ", "MOST = 65 "),
    _mutation("what judges does not calibrate", "held_out.py", "if number not in kept])", "if True])"),
    _mutation(
        "what judges is what was kept", "held_out.py", "enumerate(numbers) if number in kept])", "enumerate(numbers)])"
    ),
    _mutation(
        "data given to judge is parted",
        "held_out.py",
        "rest = np.setdiff1d(np.arange(total), kept)",
        "rest = np.arange(total)",
    ),
    _mutation("what calibrated does not judge", "held_out.py", "if digest not in seen]", "if True]"),
    _mutation("where all calibrated that is said", "held_out.py", "    if not fresh:\n", "    if False:\n"),
    _mutation(
        "a sample is all that is read of it", "held_out.py", "for spec in batched)\n", "for spec in batched[:1])\n"
    ),
    _mutation(
        "a double is the same sample",
        "held_out.py",
        'array.astype(np.float32) if spec.dtype.startswith(("float", "bfloat")) else array.astype(spec.dtype)',
        "array",
    ),
    _mutation("samples are numbered over batches", "held_out.py", "        first += count\n", "        first += 1\n"),
)


@pytest.mark.parametrize("claim", fitted_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_the_edits_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.fitted_claims", tmp_path)
