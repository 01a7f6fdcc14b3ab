"""The sentence about where files run names what tests run them in, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.foreign import ASKED_FOR, RUNS_IN


def test_the_readme_lists_exactly_the_runtimes_that_tests_run() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    sentence = text[text.index("**Exports one ONNX file") :].split("\n- ")[0]
    assert {name for name in ASKED_FOR if name in sentence} == RUNS_IN
