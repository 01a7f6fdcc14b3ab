"""Wrong candidates never pass and right ones never fail: two of the networks of benchmarks/wrong_candidates.py."""

from __future__ import annotations

import pytest
from candidates.networks import network
from wrong_candidates import candidates_of, judged

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["two heads", "detector"])
def test_no_wrong_candidate_passes_and_no_right_one_fails(kind: str) -> None:
    net = network(kind, 7)
    found = [(name, wrong, *judged(*pair)) for name, wrong, *pair in candidates_of(net, 7)]
    assert sum(wrong for _, wrong, *_ in found) >= 12
    assert sum(not wrong for _, wrong, *_ in found) >= 12
    assert [each for each in found if each[2] == ("PASSED" if each[1] else "FAILED")] == []
    assert [each for each in found if not each[1] and each[2] != "PASSED"] == []
