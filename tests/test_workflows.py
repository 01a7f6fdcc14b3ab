"""The workflows for GitHub are well formed, and what they run is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which mkdocs brings along")

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["jobs"]
    return found


def commands(file: Path) -> list[str]:
    """What its steps run."""
    return [step["run"] for job in jobs(file).values() for step in job["steps"] if "run" in step]


def test_there_are_workflows_for_macos_and_windows() -> None:
    systems = {name for file in FILES for job in jobs(file).values() for name in _systems(job)}
    assert {name.partition("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_job_has_a_machine_and_steps_that_do_one_thing(file: Path) -> None:
    text = yaml.safe_load(file.read_text())
    assert {"name", "jobs", "permissions"} <= set(text)
    assert text.get("on", text.get(True))  # YAML 1.1 reads the key `on` as true
    for job in jobs(file).values():
        assert _systems(job)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
        named = set(re.findall(r"\$\{\{ matrix\.(\w+) \}\}", str(job)))
        assert named == set(job.get("strategy", {}).get("matrix", {}))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_and_commands_that_are_run_exist(file: Path) -> None:
    for command in commands(file):
        for word in re.findall(r"(?<![\w/.-])(?:examples|tests|tools|plugins|\.ci)/[\w./-]+", command):
            assert (ROOT / word).exists(), word
        for word in re.findall(r"^normexport ([a-z-]+)", command, re.MULTILINE):
            assert (ROOT / "tools" / "normexport_cli" / f"{word}.py").is_file(), word


def test_the_wheels_are_built_as_the_makefile_builds_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert settings["config-settings"] == {"wheel.cmake": "true"}
    for key in ("before-all", "test-command"):
        (script,) = re.findall(r"(?:plugins|tools)/\w+\.py", settings[key])
        assert (ROOT / script).is_file()


def _systems(job: dict[str, Any]) -> list[str]:
    runs_on = str(job["runs-on"])
    return job["strategy"]["matrix"]["os"] if "matrix.os" in runs_on else [runs_on]
