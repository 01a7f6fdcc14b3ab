"""Building with CMake: what is checked before, what is said after, tried on a small project."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from normexport import plugins
from normexport.errors import MissingComponent, UsageError
from normexport.plugins import locate
from normexport.plugins.compile import BuildConfig, build

pytestmark = pytest.mark.slow

ARCHITECTURES = Path(__file__).parents[2] / "plugins" / "kernels" / "cuda" / "architectures.py"
PROJECT = """\
cmake_minimum_required(VERSION 3.24)
project(small LANGUAGES CXX)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
add_library(normexport_small SHARED small.cpp)
set(settings "${NORMEXPORT_HEADERS}|${NORMEXPORT_CUDA}|${NORMEXPORT_ONNXRUNTIME}")
file(WRITE ${CMAKE_BINARY_DIR}/settings.txt "${settings}|${NORMEXPORT_TENSORRT_INCLUDE}")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources of a project that builds in a second, in the place of the real ones."""
    source = tmp_path / "plugins"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(PROJECT)
    (source / "small.cpp").write_text("int small() { return 1; }\n")
    (source / "headers.py").write_text("import sys\nprint(*(f'/{name}/include' for name in sys.argv[2:]), sep='\\n')\n")
    monkeypatch.setattr(locate, "checkout", lambda: tmp_path)
    monkeypatch.delenv("NORMEXPORT_PLUGIN_DIR", raising=False)
    return source


def only_these_tools(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A PATH that holds nothing but these."""
    folder.mkdir()
    for name in names:
        tool = folder / name
        tool.write_text("#!/bin/sh\nexit 1\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)


def test_build_puts_libraries_where_they_are_looked_for_and_tells_its_steps(project: Path) -> None:
    stages: list[str] = []
    built = build(BuildConfig(jobs=1), stages.append)
    assert built.libraries == (plugins.library_folder() / "libnormexport_small.so",)
    assert stages[:2] == ["headers", "configure"]
    assert "[2/2]" in stages
    assert (plugins.build_folder() / "settings.txt").read_text() == "/highway/include;/onnxruntime/include||ON|"
    assert "small.cpp" in built.log.read_text()


def test_second_build_compiles_nothing(project: Path) -> None:
    first = build(BuildConfig(jobs=1))
    before = first.libraries[0].stat().st_mtime_ns
    stages: list[str] = []
    again = build(BuildConfig(jobs=1), stages.append)
    assert again.libraries[0].stat().st_mtime_ns == before
    assert stages == ["headers", "configure"]


def test_compiler_error_is_one_line_with_the_place_and_the_log(project: Path) -> None:
    (project / "small.cpp").write_text("int small() { return nothing; }\n")
    with pytest.raises(MissingComponent, match=r"small\.cpp:1:\d+: error: .*nothing.*see .*build\.log") as caught:
        build(BuildConfig(jobs=1))
    assert "\n" not in str(caught.value)


def test_error_of_cmake_is_told_with_its_cause_and_not_by_what_it_merely_looked_for(project: Path) -> None:
    (project / "CMakeLists.txt").write_text(
        PROJECT + 'message(STATUS "Looking for a thing - not found")\nmessage(FATAL_ERROR "the thing is missing")\n'
    )
    with pytest.raises(
        MissingComponent, match=r"\(CMake Error at CMakeLists\.txt:\d+ \(message\): the thing is missing"
    ):
        build(BuildConfig(jobs=1))


def test_cuda_stays_as_it_was_unless_it_is_asked_for(project: Path) -> None:
    for config, expected in ((BuildConfig(), ""), (BuildConfig(cuda=False), "OFF"), (BuildConfig(), "OFF")):
        build(config)
        assert (plugins.build_folder() / "settings.txt").read_text().split("|")[1] == expected


def test_tensorrt_brings_cuda_and_its_own_headers_along(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.plugins.compile.cuda_compiler", lambda: "/usr/bin/nvcc")
    build(BuildConfig(tensorrt=True))
    settings = (plugins.build_folder() / "settings.txt").read_text()
    assert settings == "/highway/include;/onnxruntime/include|ON|ON|/tensorrt/include"


def test_cuda_without_nvcc_says_what_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.plugins.compile.cuda_compiler", lambda: None)
    with pytest.raises(MissingComponent, match="nvcc: is not on PATH; install the CUDA toolkit"):
        build(BuildConfig(cuda=True))


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ((), "CMake: is not on PATH; install cmake"),
        (("cmake",), r"a C\+\+ compiler: is not on PATH; install one \(apt install g\+\+\)"),
        (("cmake", "g++"), "ninja: is not on PATH; install it"),
    ],
)
def test_missing_tool_is_named_with_what_to_install(
    tools: tuple[str, ...], words: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_these_tools(tmp_path / "bin", monkeypatch, *tools)
    with pytest.raises(MissingComponent, match=words):
        build()


def test_make_serves_where_ninja_is_absent_and_a_folder_of_the_other_is_taken_over(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(BuildConfig(jobs=1))
    found = shutil.which
    monkeypatch.setattr(
        "normexport.plugins.compile.shutil.which", lambda name: None if name == "ninja" else found(name)
    )
    if not found("make"):
        pytest.skip("needs make")
    built = build(BuildConfig(jobs=1))
    assert (plugins.build_folder() / "Makefile").exists()
    assert built.libraries[0].exists()


def test_headers_that_cannot_be_had_end_the_build_with_the_scripts_own_words(project: Path) -> None:
    (project / "headers.py").write_text(
        "import sys; sys.stderr.write('noise\\nerror: no headers of X; install x-dev\\n'); sys.exit(6)"
    )
    with pytest.raises(MissingComponent, match="headers: no headers of X; install x-dev"):
        build()


def test_installed_package_without_sources_says_where_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "sources", lambda: None)
    with pytest.raises(MissingComponent, match="not part of the installed package; build in a checkout"):
        build()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BuildConfig(cuda=True, architectures=("sm_86",)), "'sm_86' is no CUDA architecture"),
        (BuildConfig(architectures=("86",)), "add --cuda"),
        (BuildConfig(jobs=0), "give 1 or more"),
        (BuildConfig(tensorrt=True, cuda=False), "can't go with --no-cuda"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(config: BuildConfig, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(config)


def listing(folder: Path, *architectures: int) -> Path:
    """A compiler that knows these architectures, and can do nothing else."""
    nvcc = folder / "nvcc"
    lines = "\n".join(f"echo compute_{number}" for number in architectures)
    nvcc.write_text(f'#!/bin/sh\n[ "$*" = --list-gpu-arch ] || exit 9\n{lines}\n')
    nvcc.chmod(0o755)
    return nvcc


@pytest.mark.parametrize("name", ["101", "88a", "130-real"])
def test_an_architecture_that_the_compiler_does_not_know_is_refused_with_those_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CUDACXX", str(listing(tmp_path, 75, 90, 100)))
    with pytest.raises(UsageError, match=rf"--arch: {name} is not known to .*nvcc; choose among 75, 90, 100, or"):
        build(BuildConfig(cuda=True, architectures=("90a", name)))


def test_a_compiler_that_lists_nothing_is_left_to_cmake(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", str(listing(project)))
    built = build(BuildConfig(cuda=True, architectures=("101",), jobs=1))
    assert "-DCMAKE_CUDA_ARCHITECTURES=101" in built.log.read_text()


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        # What CUDA 12.4, 12.9 and 13.0 list.
        ((50, 60, 70, 75, 80, 86, 87, 89, 90), "75-real;80-real;86-real;87-real;89-real;90"),
        (
            (75, 80, 86, 87, 89, 90, 100, 101, 103, 120, 121),
            "75-real;80-real;86-real;87-real;89-real;90;100-real;103-real;120-real",
        ),
        (
            (75, 80, 86, 87, 88, 89, 90, 100, 110, 103, 120, 121),
            "75-real;80-real;86-real;87-real;89-real;90;100-real;103-real;110-real;120-real",
        ),
        ((35, 52, 75, 80), "75-real;80"),  # one without 90 keeps the PTX of its newest
        ((130, 140), "140"),
    ],
)
def test_machine_code_is_made_for_every_wanted_gpu_that_the_compiler_knows(
    tmp_path: Path, known: tuple[int, ...], chosen: str
) -> None:
    command = [sys.executable, str(ARCHITECTURES), str(listing(tmp_path, *known))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, chosen)


def test_a_compiler_that_does_not_list_architectures_ends_the_configuration_in_one_line(tmp_path: Path) -> None:
    for compiler in (listing(tmp_path), tmp_path / "none"):
        done = subprocess.run([sys.executable, str(ARCHITECTURES), str(compiler)], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {compiler} does not list its architectures: ")
        assert done.stderr.count("\n") == 1


def test_two_builds_in_one_folder_take_turns(project: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from normexport.plugins import locate\n"
        "from normexport.plugins.compile import BuildConfig, build\n"
        f"locate.checkout = lambda: Path({str(project.parent)!r})\n"
        "build(BuildConfig(jobs=1))"
    )
    errors = []

    def run() -> None:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            errors.append(done.stderr)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(list(plugins.library_folder().glob("*.so"))) == 1


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_told_that_the_libraries_are_for_linux(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.plugins.compile.sys.platform", system)
    with pytest.raises(UsageError, match="are for Linux; do without: the bodies in a file serve everywhere"):
        build()
