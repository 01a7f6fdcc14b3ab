"""Breaking any single rule of the fold makes the focused check fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.folding.mutations import MUTATIONS
from tests.folding.mutations_of_norms import MUTATIONS_OF_NORMS
from tests.mutation import Mutation, broken, copied, run_claims

pytestmark = pytest.mark.slow

CLAIMS = "tests.folding.focused"
SECONDS = 600  # it ends itself after a minute of processor time


def test_focused_check_passes_on_the_library_as_it_is(tmp_path: Path) -> None:
    done = run_claims(copied(tmp_path), CLAIMS, SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *MUTATIONS_OF_NORMS], ids=lambda mutation: mutation.claim.replace(" ", "_")
)
def test_breaking_a_rule_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    done = run_claims(broken(mutation, tmp_path), CLAIMS, SECONDS)
    # Exit code 1 and a named claim: a mutation that does not even import proves nothing.
    assert done.returncode == 1, f"not noticed: {mutation.claim}"
    assert "Error" in done.stdout, done.stderr
