"""Breaking any single rule of the fold makes the focused check fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.folding.mutations import MUTATIONS
from tests.folding.mutations_of_norms import MUTATIONS_OF_NORMS
from tests.mutation import Mutation, check_noticed, copied, run_claims

pytestmark = pytest.mark.slow

CLAIMS = "tests.folding.focused"


def test_focused_check_passes_on_the_library_as_it_is(tmp_path: Path) -> None:
    done = run_claims(copied(tmp_path), CLAIMS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *MUTATIONS_OF_NORMS], ids=lambda mutation: mutation.claim.replace(" ", "_")
)
def test_breaking_a_rule_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, CLAIMS, tmp_path)
