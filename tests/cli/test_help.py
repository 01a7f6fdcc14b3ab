"""What --help shows and what the shell completes: at 80 columns nothing is cut, options stand in groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer.rich_utils  # noqa: F401  (its width is set)
from normexport_cli.app import COMMANDS
from normexport_cli.narrow_help import TABLES_FROM
from typer.testing import Result

from normexport.checkpoint import DIALECTS
from normexport.errors import ExitCode
from normexport.precision.config import METHODS
from tests.cli.conftest import ROOT, Run, environment

GROUPS = {"plugins": ("list", "build", "doctor"), "calibrate": ("collect", "merge")}
PAGES = [*((name,) for name in COMMANDS), *((group, name) for group in GROUPS for name in GROUPS[group]), ()]


def page(width: int, words: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A page of the help; typer has looked at the environment when it was imported."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    return run(*words, "--help")


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
@pytest.mark.parametrize("width", [80, 200])
def test_no_word_is_cut_and_no_example_wraps(
    words: tuple[str, ...], width: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = page(width, words, run, monkeypatch)
    assert result.exit_code == ExitCode.GOOD
    assert "…" not in result.stdout
    assert "<bool>" not in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= width
    examples = [index for index, line in enumerate(lines) if line.strip().startswith("normexport ")]
    assert examples or words[0] in GROUPS
    assert all(lines[index + 1].strip() == "" or index + 1 in examples for index in examples)


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
@pytest.mark.parametrize("width", [40, 60, TABLES_FROM - 1, TABLES_FROM])
def test_a_narrow_terminal_is_told_all_that_a_wide_one_is(
    words: tuple[str, ...], width: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word of the page of 200 columns is there; the frames are none."""
    pages = {columns: page(columns, words, run, monkeypatch).stdout for columns in (width, 200)}
    assert "…" not in pages[width]
    assert max(map(len, pages[width].splitlines())) <= width
    narrow = "".join(pages[width].split())  # a name that is longer than a line goes on in the next
    letters = str.maketrans("", "", "│╭╮╰╯─")
    missing = [word for word in pages[200].translate(letters).split() if word not in narrow and word != "*"]
    assert not missing


def test_a_paragraph_wraps_where_the_terminal_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = run("convert", "--help").stdout.partition("╭")[0]
    paragraphs = [" ".join(part.split()) for part in page.split("\n" + " " * 80 + "\n")]
    told = next(part for part in paragraphs if part.startswith("Writes model.onnx"))
    lines = [line for line in page.splitlines() if line.strip() and line.strip() in told]
    assert all(len(line.rstrip()) > 60 for line in lines[:-1])
    assert "PRECISION and the verdict: PASSED, FAILED (exit code 1)" in told


def test_options_stand_in_groups_in_which_each_stands_once(run: Run) -> None:
    page = run("convert", "--help").stdout
    titles = [line[3:].split(" ─")[0] for line in page.splitlines() if line.startswith("╭─ ")]
    assert titles[:4] == ["Arguments", "Options", "What is read", "The ONNX file that is written"]
    assert {"Precision", "Engine", "Capsule", "Output"} < set(titles)
    for option in ("--model ", "--weights-under ", "--openvino ", "--calibration ", "--target ", "--capsule-size "):
        assert sum(line.startswith(f"│ {option}") for line in page.splitlines()) == 1


def test_the_options_that_every_command_shares_are_in_a_group_of_their_own(run: Run) -> None:
    for words in PAGES[:-1]:
        if words[-1] in GROUPS:
            continue
        page = run(*words, "--help").stdout
        assert "╭─ Output" in page
        assert page.index("╭─ Output") < page.index("--quiet")


def test_dialects_have_a_page_of_their_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = run("dialects")
    assert page.exit_code == ExitCode.GOOD
    assert all(any(line.startswith(f"{name} ") for line in page.stdout.splitlines()) for name in DIALECTS)
    assert all(operator in page.stdout for operator in ("L1BatchNorm", "TopKGroupNorm"))
    assert max(map(len, page.stdout.splitlines())) <= 80
    assert "running_var is a variance" not in run("convert", "--help").stdout


COMPLETED = {
    "convert --precision b": {"bf16"},
    "convert --calibration m": {method for method in METHODS if method.startswith("m")},
    "convert --effort ": {"none", "standard", "high"},
    "convert --dialect lp": {"lp-norm"},
    "convert --preset cl": {"clip"},
    "convert --flavor ": {"rtx", "tensorrt"},
    "convert --target sm8": {"sm80", "sm86", "sm89"},
    "build --require f": {"fp16", "fp8"},
    "parity --runtime o": {"onnxruntime", "openvino"},
    "bench --runtime onnxruntime,open": {"onnxruntime,openvino"},
    "bis": {"bisect"},
    "dial": {"dialects"},
}


@pytest.mark.parametrize("line", COMPLETED)
def test_values_are_completed(line: str, tmp_path: Path) -> None:
    words = ["normexport", *line.split(" ")]
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['normexport']; from normexport_cli.start import main; main()"
    given = {**environment(), **asked, "_NORMEXPORT_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=given, capture_output=True, text=True)
    found = {each.removeprefix("plain,") for each in done.stdout.split()}
    if line.endswith(" "):
        assert found >= COMPLETED[line], done
    else:
        assert found >= COMPLETED[line], done
        assert all(each.startswith(words[-1]) for each in found)


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """Also in a folder with a file that has the name of a library."""
    (tmp_path / "torch.py").write_text("raise SystemExit('taken for PyTorch')")
    (tmp_path / "typer.py").write_text("raise SystemExit('taken for typer')")
    done = subprocess.run(
        [sys.executable, "-m", "normexport", "inspect", "none.onnx"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == "error: none.onnx: can't be read (No such file or directory); check the path\n"
    assert done.returncode == ExitCode.USAGE
    assert (ROOT / "normexport" / "__main__.py").exists()


WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
sys.argv = ["normexport", *sys.argv[1:]]
from normexport_cli.start import main
main()
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_a_system_without_locks_and_with_plain_letters_serves(locale: str, converted: Path, tmp_path: Path) -> None:
    given = {**environment(), "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    model = str(converted / "model.onnx")
    for words in (["fold", model, "-o", "folded.onnx"], ["inspect", model], ["dialects"], ["plugins", "list"], ["-h"]):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_FCNTL, *words], cwd=tmp_path, env=given, capture_output=True
        )
        assert (done.returncode, done.stderr) == (ExitCode.GOOD, b""), words
        assert done.stdout
        if locale != "C.UTF-8":
            done.stdout.decode("ascii")
    assert [file.name for file in tmp_path.iterdir()] == ["folded.onnx"]
