"""Breaking a rule of float8, of scales in a half type or of the half remainder is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import Mutation, check_noticed

pytestmark = pytest.mark.slow


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    _mutation("float8 saturates", "storage.py", "np.clip(numbers, -self.largest, self.largest)", "numbers"),
    _mutation("float8 ends at its largest", "storage.py", "FLOAT8.largest if", "240.0 if"),
    _mutation(
        "scales go up", "storage.py", "(below.astype(np.float32) < single)", "(below.astype(np.float32) > single)"
    ),
    _mutation("scales beyond stay", "storage.py", "np.where(np.isfinite(above), above, single)", "above"),
    _mutation(
        "scales are of the half type",
        "storage.py",
        "        if self.scales == FLOAT32.name:\n            return single\n",
        "        return single\n",
    ),
    _mutation("a quantiser has the type of what it reads", "remainder.py", "producer in self.half", "True"),
    _mutation(
        "float32 readers get a pair of their own",
        "remainder.py",
        "                if uses:\n",
        "                if False:\n",
    ),
    _mutation(
        "inputs have the remainder's type where asked",
        "remainder.py",
        "self.rest.half_io if producer is None",
        "False if producer is None",
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_eight_bits_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.storage_claims", tmp_path)
