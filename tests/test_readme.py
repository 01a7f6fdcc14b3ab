"""What the README shows works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_example_runs_and_prints_what_its_comment_says(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (promised,) = re.findall(r"print\(.*\)  # (.*)", code)
    assert run.stdout.strip() == promised
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "model.layers.json",
        "model.onnx",
        "report.json",
    ]


def test_the_two_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_named_files_exist():
    for name in re.findall(r"`((?:normexport|docs|examples|benchmarks)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name
