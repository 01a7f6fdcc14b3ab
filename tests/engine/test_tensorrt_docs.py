"""What docs/tensorrt.md shows compiles, and what it claims of the code is so."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from normexport.engine import FLAVORS
from normexport.engine.shapes import DEFAULT_BATCH
from tests.engine import plugin_build
from tests.plugins.cuda_emulated import emulation_build

TEXT = (Path(__file__).parents[2] / "docs" / "tensorrt.md").read_text()


@pytest.mark.skipif(plugin_build.missing() is not None, reason=str(plugin_build.missing()))
def test_the_program_has_at_most_forty_lines_and_compiles(tmp_path: Path) -> None:
    (code,) = re.findall(r"```cpp\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    (tmp_path / "deploy.cpp").write_text(code)
    include = [f"-isystem{plugin_build.headers()}", f"-isystem{emulation_build.cuda_include()}"]
    command: list[str | Path] = [
        "c++",
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        *include,
        tmp_path / "deploy.cpp",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_targets_and_default_shapes_are_those_of_the_code() -> None:
    rtx = FLAVORS["tensorrt-rtx"]
    assert f"`--target {rtx.targets[0]} ... {rtx.targets[-1]}`" in TEXT
    assert f"default: all but {', '.join(rtx.not_by_default)}" in TEXT
    assert "has {}, {} and {} by default".format(*DEFAULT_BATCH) in TEXT


def test_every_option_named_is_one_of_the_commands() -> None:
    known = ""
    for command in ("build", "convert", "run", "parity"):
        known += CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    foreign = {"--loadEngine", "--dynamicPlugins", "--onnx", "--shapes", "--backend-config"}  # trtexec's and Triton's
    foreign.add("--extra-index-url")  # pip's
    plugins = {"--tensorrt", "--arch"}  # of `normexport plugins build`
    for option in set(re.findall(r"--[a-zA-Z][\w-]*", TEXT)) - foreign - plugins - {"--precision"}:
        assert option in known, option
