"""Breaking a rule of what int8 models are fitted on, judged by and left out of is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import measured_claims

pytestmark = pytest.mark.slow


def _fitting(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/fitting.py", old, new)


def _judging(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/judging.py", old, new)


def _sensitivity(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/sensitivity.py", old, new)


MUTATIONS = (
    # ---- what is fitted, and on what
    _fitting("as many samples as are said", "taken >= most", "taken > most"),
    _fitting("one batch at least", "if taken and (taken", "if (taken"),
    _fitting("numbers count before a batch is taken", "size + numbers_in(feeds) > numbers", "size > numbers"),
    _fitting("numbers add up", "size += numbers_in(feeds)", "size = numbers_in(feeds)"),
    _fitting("samples add up", "taken += max((len", "taken = max((len"),
    _fitting("weights are fitted on as many numbers as there are", "_limited(self.batches, FITTED_ON)", "self.few"),
    _fitting("biases are fitted on fewer numbers", "FITTED_ON, _FITTED_NUMBERS", "FITTED_ON, math.inf"),
    _fitting("ways are compared on fewer still", "FITTED_ON, _TRIED_NUMBERS", "FITTED_ON, _FITTED_NUMBERS"),
    _fitting("how many samples there are is said", "min(most, batches.count)", "batches.count"),
    _fitting("what is not known is not said", "None if batches.count is None else min(most, batches.count)", "most"),
    _fitting("levels are of their corrections", "key = tuple(map(id, parts))", "key = tuple(map(id, parts[:2]))"),
    _fitting("a level is measured once", "if key not in self._levels:", "if True:"),
    _fitting("what a level is of lives as long", "self._levels[key] = parts, ", "self._levels[key] = (), "),
    _fitting("models have no zero points where they are to", "symmetric=self.config.symmetric", "symmetric=False"),
    _fitting("models leave out what is left out", "exclude=self.exclude,", "exclude=(),"),
    _fitting("models have their corrections", "corrections=corrections,", "corrections=NONE,"),
    _fitting(
        "biases in sequence start from none",
        "plain = replace(given.corrections, shifts={})\n        found",
        "plain = given.corrections\n        found",
    ),
    _fitting("biases in sequence are those found", "return replace(plain, shifts=found)", "return plain"),
    _fitting(
        "biases start from none",
        "plain = replace(given.corrections, shifts={})\n        quantised",
        "plain = given.corrections\n        quantised",
    ),
    _fitting("the better biases are kept", "better = max(", "better = min("),
    _fitting(
        "what makes good the layers before is told", "better is ways.in_sequence, ways.pairs)", "True, ways.pairs)"
    ),
    _fitting("biases of each layer by itself are told", "Shifted(better, ways.alone, ", "Shifted(better, better, "),
    # ---- what is good enough
    _judging("a half remainder has limits of its own", "_SPARE = 10.0", "_SPARE = 0.0"),
    _judging("they are above those of int8", "self.limits.min_snr + _SPARE", "self.limits.min_snr - _SPARE"),
    _judging("what is inconclusive is not worse", "is not Verdict.FAILED", "is Verdict.PASSED"),
    _judging("what failed is", "found.judgement.verdict is not Verdict.FAILED", "True"),
    _judging("the user's limits are held", "self.exact, self.limits)", "self.exact, Limits())"),
    _judging("labels are asked", "measure_accuracy(found, self.labelled,", "measure_accuracy(found, None,"),
    _judging("points lost are told", "return found.snr_db, found.drop,", "return found.snr_db, None,"),
    _judging("the worst output decides", "return min((_level(", "return max((_level("),
    _judging("channels of shares do not", "if name not in shares}", "}"),
    _judging("channels of other numbers do", "if name not in shares}", "if False}"),
    # ---- what is left out
    _sensitivity(
        "a module alone is without the others",
        "alone = [(tuple(other for other in modules if other != each), fits.alone)",
        "alone = [((each,), fits.alone)",
    ),
    _sensitivity("alone it has the biases of a layer by itself", "fits.alone) for each", "NONE) for each"),
    _sensitivity("without it others have the biases that fit", "((each,), fits.without((each,)))", "((each,), NONE)"),
    _sensitivity(
        "columns are not mixed up",
        "zip(modules, found[: len(modules)], found[len(modules) :],",
        "zip(modules, found[len(modules) :], found[: len(modules)],",
    ),
    _sensitivity("the worst come first", "key=lambda path: alone[path])", "key=lambda path: -alone[path])"),
    _sensitivity(
        "they are ranked by what is alone",
        "others = [(tuple(other for other in modules if other != each), corrections)",
        "others = [((each,), corrections)",
    ),
    _sensitivity("with the corrections of a layer by itself", "exclude, fits.alone, where)", "exclude, NONE, where)"),
    _sensitivity("what is left out anyway is not ranked", "in modules if each not in exclude]", "in modules]"),
    _sensitivity("what is left out stays out", "[*exclude, *order[:count]]", "[*order[:count]]"),
    _sensitivity("on the samples for it", "data if ranked_on is None else ranked_on", "data"),
    _sensitivity(
        "on those for time where there are none", "data if ranked_on is None else ranked_on", "ranked_on or {}"
    ),
    _sensitivity("each model has biases that fit", "excluded, fits.without(excluded))", "excluded, fits.alone)"),
    _sensitivity("what is held is judged", "judge(candidate, runtime)", "judge(quantised.model, runtime)"),
    _sensitivity(
        "the model itself is timed",
        "runtime = runtime if candidate is quantised.model else on(quantised.model)",
        "pass",
    ),
    _sensitivity("the fewest are looked for", "while holds and enough - short > 1:", "while False:"),
    _sensitivity("to the last", "enough - short > 1:", "enough - short > 2:"),
    _sensitivity("fewer that suffice are the result", "best, enough = candidate, middle", "enough = middle"),
    _sensitivity(
        "fewer that do not are not", "            short = middle\n", "            best, short = candidate, middle\n"
    ),
    _sensitivity("not one by one", "max(enough + 1, enough * 3 // 2)", "enough + 1"),
    _sensitivity(
        "as many as there are at most",
        "min(max(enough + 1, enough * 3 // 2), len(order))",
        "max(enough + 1, enough * 3 // 2)",
    ),
    _sensitivity("the way is told in its order", "for count in sorted(steps))", "for count in steps)"),
    _sensitivity("noise is a power", "10.0 ** (-max(level, 0.0) / 10)", "10.0 ** (-max(level, 0.0) / 20)"),
    _sensitivity("it is no more than the signal", "10.0 ** (-max(level, 0.0) / 10)", "10.0 ** (-level / 10)"),
    _sensitivity("the best run counts", "1000 * min(times)", "1000 * max(times)"),
    _sensitivity("the first does not", "    runtime.run(feeds)\n    times", "    times"),
    _sensitivity("long runs are few", " and sum(times) < _TIMED_FOR", ""),
    _sensitivity("short ones are not many", "len(times) < repeat and ", ""),
)


@pytest.mark.parametrize("claim", measured_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_what_is_measured_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.measured_claims", tmp_path)
