"""`normexport plugins`: list, build and doctor from the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from normexport import plugins
from normexport.errors import ExitCode
from normexport.plugins.doctor import ENTRY_POINTS
from normexport.plugins.kernels import ABI_VERSION
from tests.cli.conftest import Run


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("command", ["list", "build", "doctor"])
def test_every_command_has_help_with_an_example(command: str, run: Run) -> None:
    result = run("plugins", command, "--help")
    assert result.exit_code == ExitCode.GOOD
    assert f"normexport plugins {command}" in result.stdout
    assert "--json" in result.stdout


def test_bare_call_prints_help_and_is_a_usage_error(run: Run) -> None:
    result = run("plugins")
    assert result.exit_code == ExitCode.USAGE
    assert "doctor" in result.stdout


def test_list_names_every_component_and_how_to_get_what_is_absent(empty: Path, run: Run) -> None:
    result = run("plugins", "list")
    assert result.exit_code == ExitCode.GOOD
    assert all(name in result.stdout for name in plugins.COMPONENTS)
    assert result.stdout.count("not built; run: normexport plugins build") == len(plugins.COMPONENTS)


def test_list_says_what_is_broken(empty: Path, run: Run) -> None:
    (empty / "libnormexport_kernels.so").write_text("no library\n")
    found = json.loads(run("plugins", "list", "--json").stdout)
    kernels = found["libraries"][0]
    assert (kernels["name"], kernels["present"], kernels["healthy"]) == ("kernels", True, False)
    assert kernels["words"] == "file: is no ELF file"
    assert {tool["name"] for tool in found["tools"]} == {"sources", "cmake", "ninja", "C++ compiler", "nvcc"}


def test_list_tells_interface_and_instruction_set_of_what_is_built(run: Run) -> None:
    if plugins.find("onnxruntime") is None:
        pytest.skip(f"needs {plugins.path_of('onnxruntime')}, which is not built: make plugins")
    text = run("plugins", "list").stdout
    assert "of the kernels' interface" in text
    assert "kernels on this CPU" in text
    assert "onnxruntime 1." in text


def test_doctor_takes_a_component_by_name_and_ends_with_the_verdict(run: Run) -> None:
    if plugins.find("onnxruntime") is None:
        pytest.skip(f"needs {plugins.path_of('onnxruntime')}, which is not built: make plugins")
    result = run("plugins", "doctor", "onnxruntime", "--quick")
    assert result.exit_code == ExitCode.GOOD
    assert result.stdout.rstrip().endswith("HEALTHY")


def test_doctor_leaves_with_6_where_a_library_is_broken(empty: Path, run: Run) -> None:
    (empty / "text.so").write_text("no library\n")
    result = run("plugins", "doctor", empty / "text.so")
    assert result.exit_code == ExitCode.MISSING
    assert "is no ELF file" in result.stdout
    assert result.stdout.rstrip().endswith("BROKEN")
    found = json.loads(run("plugins", "doctor", empty / "text.so", "--json").stdout)
    assert found["healthy"] is False


def test_doctor_of_what_is_absent_is_one_line(empty: Path, run: Run) -> None:
    absent = run("plugins", "doctor", "tensorrt")
    assert absent.exit_code == ExitCode.MISSING
    assert "run: normexport plugins build" in absent.stderr
    unknown = run("plugins", "doctor", "no/such.so")
    assert unknown.exit_code == ExitCode.USAGE
    assert unknown.stderr.startswith("error: no/such.so: is no file")


def test_build_refuses_nonsense_in_one_line(run: Run) -> None:
    result = run("plugins", "build", "--cuda", "--arch", "sm_86")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "error: --arch: 'sm_86' is no CUDA architecture; write 86, 90 or 120\n"


def test_doctor_loads_a_file_from_elsewhere_on_trust_alone(tmp_path: Path, run: Run) -> None:
    marker = tmp_path / "marker"
    entries = "\n".join(f'extern "C" int {name}() {{ return {ABI_VERSION}; }}' for name in ENTRY_POINTS["onnxruntime"])
    mark = f'#include <fstream>\n__attribute__((constructor)) static void mark() {{ std::ofstream("{marker}"); }}'
    library = tmp_path / "library.so"
    command = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(command, input=f"{mark}\n{entries}", text=True, check=True)
    result = run("plugins", "doctor", library, "--quick")
    assert (result.exit_code, result.stdout.rstrip().endswith("NOT TRIED")) == (ExitCode.GOOD, True)
    assert not marker.exists()
    result = run("plugins", "doctor", library, "--quick", "--trust")
    assert (result.exit_code, result.stdout.rstrip().endswith("HEALTHY")) == (ExitCode.GOOD, True)
    assert marker.exists()
