"""Breaking any single rule of the fold makes the focused check fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.folding.mutations import MUTATIONS
from tests.folding.mutations_of_norms import MUTATIONS_OF_NORMS
from tests.mutation import Mutation, check_noticed, check_sound

pytestmark = pytest.mark.slow

CLAIMS = "tests.folding.focused"


def test_focused_check_passes_on_the_library_as_it_is() -> None:
    check_sound(CLAIMS)


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *MUTATIONS_OF_NORMS], ids=lambda mutation: mutation.claim.replace(" ", "_")
)
def test_breaking_a_rule_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, CLAIMS, tmp_path)
