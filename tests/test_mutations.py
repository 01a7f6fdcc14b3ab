"""What a mutation replaces stands in the library once: a line that is rewritten or moved takes its mutations along."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.mutation import ROOT, Mutation, original


def _lists_of_mutations() -> list[str]:
    """The modules of tests that have mutations of their own, by name."""
    tests = Path(__file__).parent
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(tests.rglob("*.py"))}
    imports = re.compile(r"^from tests\.mutation import .*\bMutation\b", re.MULTILINE)
    return [name for path, name in names.items() if name != __name__ and imports.search(path.read_text())]


@pytest.mark.parametrize("module", _lists_of_mutations())
def test_what_a_mutation_replaces_stands_in_its_file_once(module: str) -> None:
    lists = [value for value in vars(importlib.import_module(module)).values() if isinstance(value, list | tuple)]
    mutations = [each for values in lists for each in values if isinstance(each, Mutation)]
    assert mutations
    for mutation in mutations:
        original(mutation)


def test_a_mutation_of_a_line_that_is_gone_is_refused() -> None:
    with pytest.raises(AssertionError, match="holds this 0 times"):
        original(Mutation("nothing", "errors.py", "a line that is gone", ""))
