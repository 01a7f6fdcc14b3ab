"""Random live norms are recognised, near misses are never replaced by something else: judged by ONNX Runtime.

    PYTHONPATH=. python -m tests.recognition.test_near_misses 2000

does the same for as many seeds as one likes.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.folding.choices import SeededChoices
from tests.recognition.judge import TOLERANCE, judge
from tests.recognition.near_misses import MISSES, Maker, make

pytestmark = pytest.mark.slow

#: Words of the reason, where no norm of the library is what the difference makes.
REASONS = {
    "centred by the middle of the range": "mean",
    "centred by half of the batch": "mean",
    "two kinds mixed": "none of",
    "power of a half": "none of",
    "power of three": "none of",
    "chunks of fixed length": "none of",
    "chunks across space first": "none of",
    "epsilon by channel": "from channel to channel",
    "epsilon in the root": "inside the root",
    "epsilon as a floor": "compares with a constant",
    "statistic of the square": "epsilon added to it",
    "a little of the mean": "also read by",
    "groups that interleave": "one mean and one divisor per statistic",
    "at most eight samples": "cuts an axis of any length at a fixed place",
}


def wrong(seed: int) -> str:
    """What is wrong with the recognition of one random model, "" for nothing."""
    made = make(SeededChoices(seed))
    judged = judge(made)
    what = f"seed {seed}: {made.miss or 'a norm'}, {made.kind} {made.scope} {made.sizes}"
    if not made.miss and not judged.replaced:
        return f"{what}: not recognised, {judged.reasons}"
    return "" if judged.error < TOLERANCE else f"{what}: replaced, and {judged.error:.2g} off"


def test_norms_are_recognised_and_near_misses_never_replaced_wrongly() -> None:
    assert not [text for seed in range(150) if (text := wrong(seed))]


@pytest.mark.parametrize("miss", REASONS)
def test_a_near_miss_is_refused_with_what_differs(miss: str) -> None:
    reasons = Counter[str]()
    for seed in range(4):
        judged = judge(Maker(SeededChoices(seed), miss).make())
        assert not judged.replaced
        reasons.update(judged.reasons)
    assert reasons
    assert all(REASONS[miss] in reason for reason in reasons), reasons


def test_the_names_of_reasons_are_names_of_near_misses() -> None:
    assert set(REASONS) <= set(MISSES)


if __name__ == "__main__":
    count = int(sys.argv[1])
    failures = [text for seed in range(count) if (text := wrong(seed))]
    print("\n".join([*failures, f"{len(failures)} of {count} wrong"]))
    sys.exit(bool(failures))
