"""Breaking a rule of histograms that merge, of states that add up or of their file is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import state_claims

pytestmark = pytest.mark.slow


def _histogram(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/histogram.py", old, new)


def _state(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/state.py", old, new)


def _file(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/state_files.py", old, new)


MUTATIONS = (
    _histogram(
        "both sides are counted", "            if each._exponent is not None:\n", "            if each is self:\n"
    ),
    _histogram(
        "both ends are taken in",
        "        for each in (self, other):\n            whole._widen(each.low, each.high)\n",
        "        whole._widen(self.low, self.high)\n",
    ),
    _histogram(
        "bins are made as wide as those of the sum", "whole._exponent - each._exponent, whole._start", "0, whole._start"
    ),
    _histogram(
        "numbers are shifted downwards",
        "numbers = (full + start) >> min(doublings, 62)",
        "numbers = np.fix((full + start) / 2.0 ** min(doublings, 62)).astype(int)",
    ),
    _histogram(
        "bins that merge are added up", "np.add.at(found, numbers - new_start", "found.__setitem__(numbers - new_start"
    ),
    _histogram(
        "the first bin is that of the lowest", "math.floor(self.low * 2.0**-exponent)", "int(self.low * 2.0**-exponent)"
    ),
    _histogram("values below zero are cut downwards", "if self._start < 0:", "if False:"),
    _histogram("powers below one do not round", "if self._exponent <= 0 else np.float64", "if True else np.float64"),
    _histogram(
        "widths double no more than they must",
        "return exponent - 1 if mantissa == 0.5 else exponent",
        "return exponent",
    ),
    _histogram(
        "a negative zero is a zero", "float(np.minimum(self.low, low)) + 0.0", "float(np.minimum(low, self.low))"
    ),
    _histogram("an empty first bin is refused", "if not (counts[0] and counts[-1]):", "if not counts[-1]:"),
    _histogram("an empty last bin is refused", "if not (counts[0] and counts[-1]):", "if not counts[0]:"),
    _histogram("negative counts are refused", " or (counts < 0).any():", ":"),
    _histogram("bins go to the highest", "or first + len(counts) - 1 != last ", ""),
    _histogram("bins begin at the lowest", "if first != made._start or", "if"),
    _state("other models are refused", "if first.model != second.model:", "if False:"),
    _state("other batches are refused", "if first.batch != second.batch:", "if False:"),
    _state("other arithmetic is refused", "if first.computed_by != second.computed_by:", "if False:"),
    _state("other tensors are refused", "if set(first.tensors) != set(second.tensors) and", "if False and"),
    _state("a batch is counted once", "if joined and span[0] < joined[-1][1]:", "if False:"),
    _state("as many batches are meant", "if first.batches != second.batches:", "if False:"),
    _state("spans that meet are one", "if joined and span[0] == joined[-1][1]:", "if False:"),
    _state(
        "spans are told in order",
        "for span in sorted((*first.spans, *second.spans)):",
        "for span in (*first.spans, *second.spans):",
    ),
    _state(
        "samples are in order", "tuple(sorted((*first.samples, *second.samples)))", "(*first.samples, *second.samples)"
    ),
    _state(
        "skipped samples are in order",
        "tuple(sorted((*first.skipped, *second.skipped)))",
        "(*second.skipped, *first.skipped)",
    ),
    _state("what is skipped is kept", "tuple(sorted((*first.skipped, *second.skipped))),", "first.skipped,"),
    _state(
        "both sets of samples are kept", "each if name not in seen else _joined(", "each if name in seen else _joined("
    ),
    _state("a part is no whole", "if each.count < each.batches:", "if each.count == 0:"),
    _state("nothing is no calibration", "if not self.samples:", "if False:"),
    _state("spans are half open", "first <= batch < behind for", "first <= batch <= behind for"),
    _state("spans count their batches", "sum(behind - first for", "sum(behind - first + 1 for"),
    _state("completeness is told", '"complete": done == total', '"complete": done >= 1'),
    _file("the format is checked", "    fields.require_format(FORMAT)\n", '    fields.get("format", count)\n'),
    _file(
        "the kind is checked",
        'if (kind := fields.get("kind", text)) != KIND:',
        'if not (kind := fields.get("kind", text)):',
    ),
    _file(
        "unknown fields are refused",
        '        samples=fields.get("samples", _samples),\n    )\n    fields.no_more()\n',
        '        samples=fields.get("samples", _samples),\n    )\n',
    ),
    _file("the order in a file is checked", "if list(found.samples) != sorted(found.samples) or", "if"),
    _file("the order of the skipped in a file is checked", " or list(found.skipped) != sorted(found.skipped):", ":"),
    _file(
        "ends in a file are float32 in order", "if not -FLOAT32.largest <= low <= high <= FLOAT32.largest:", "if False:"
    ),
    _file("counts in a file are whole numbers", "or not all(_WHOLE.fullmatch(each) for each in words):", "or False:"),
    _file("spans in a file are in order and within", "or not at < span[0] < span[1] <= batches:", "or False:"),
    _file("digests in a file are whole", "if len(found) % _DIGEST or", "if"),
)


def test_the_library_as_it_is_holds_the_claims() -> None:
    for claim in state_claims.CLAIMS:
        claim()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_states_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.state_claims", tmp_path)
