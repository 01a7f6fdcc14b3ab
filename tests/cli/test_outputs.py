"""Where outputs can't go, and what the system refuses: one line, exit code 2, nothing replaced."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from normexport_cli import failures

import normexport.nn
from normexport.errors import ExitCode
from tests.cli.conftest import Process, Run, environment

pytestmark = pytest.mark.slow


def _fold_or_export(command: str, made: Path, converted: Path) -> tuple[str, Path]:
    return {
        "fold": ("fold", converted / "model.onnx"),
        "export": ("export", made / "model.pt2"),
    }[command]


@pytest.mark.parametrize("command", ["fold", "export"])
def test_an_output_that_is_a_folder_is_refused(
    command: str, made: Path, converted: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    result = run(*_fold_or_export(command, made, converted), "-o", tmp_path / "folder")
    assert result.exit_code == ExitCode.USAGE
    (line,) = result.stderr.splitlines()
    assert "folder: is a folder; name the file to write" in line


@pytest.mark.parametrize("command", ["fold", "export"])
def test_a_special_file_is_never_renamed_over(
    command: str, made: Path, converted: Path, run: Run, tmp_path: Path
) -> None:
    """`-o /dev/null` by root would leave the machine without its /dev/null; a pipe stands in for it."""
    os.mkfifo(tmp_path / "special")
    result = run(*_fold_or_export(command, made, converted), "-o", tmp_path / "special")
    assert result.exit_code == ExitCode.USAGE
    assert "special: is not a regular file" in result.stderr
    assert stat.S_ISFIFO((tmp_path / "special").stat().st_mode)


def test_a_name_that_is_too_long_is_no_bug(run: Run) -> None:
    result = run("inspect", "a" * 300 + ".pt")
    assert result.exit_code == ExitCode.USAGE
    assert "can't be read or written (File name too long); check the path" in result.stderr


def test_a_full_disk_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert failures.report(error, as_json=True, debug=False) == 2
    assert json.loads(capsys.readouterr().out)["error"]["place"] == "output"


@pytest.mark.parametrize("words", [("--help",), ("convert", "--help")])
def test_a_reader_of_help_who_leaves_early_gets_exit_code_0(
    words: tuple[str, ...], run_into_closed_pipe: Process
) -> None:
    result = run_into_closed_pipe(*words)
    assert (result.returncode, result.stderr) == (ExitCode.GOOD, "")


def test_help_explains_its_symbols_and_shows_no_type_for_flags(run: Run) -> None:
    assert "d: what training divides by" in run("dialects").stdout
    text = run("convert", "--help").stdout
    (trust,) = (line for line in text.splitlines() if "--trust" in line)
    assert "<bool>" not in trust


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a weight of 3 kB, large enough for a data file where the limit is 1 kB."""
    path = tmp_path_factory.mktemp("wide") / "wide.pt2"
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), normexport.nn.L1BatchNorm2d(32)).eval()
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=batch), path)
    return path


def test_a_model_over_2_gb_names_both_of_its_files(
    wide: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the terminal, in JSON, and in what Python gets."""
    from normexport.io import onnx_model
    from normexport.verbs import fold, outputs

    small = functools.partial(onnx_model.save_onnx, limit=1000)
    for module in (fold, outputs):
        monkeypatch.setattr(module, "save_onnx", small)
    for command, source, output in (("export", wide, "a.onnx"), ("fold", "a.onnx", "b.onnx")):
        data = f"{output}.data"
        (tmp_path / "json").mkdir(exist_ok=True)
        shown = run(command, source, "-o", output)
        assert shown.exit_code == ExitCode.GOOD, shown.stderr
        assert [line.split()[-3] for line in shown.stdout.splitlines() if data in line] == [data]
        told = json.loads(run(command, source, "-o", f"json/{output}", "--json").stdout)
        assert told["files"][:2] == [f"json/{output}", f"json/{data}"]
    assert fold.fold("a.onnx", "c.onnx").files == (Path("c.onnx"), Path("c.onnx.data"))
    assert {"b.onnx", "b.onnx.data"} < {path.name for path in tmp_path.iterdir()}


def test_convert_again_replaces_model_and_data_together(
    wide: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normexport.io import onnx_model
    from normexport.verbs import outputs

    small = functools.partial(onnx_model.save_onnx, limit=1000)
    for save, data in ((small, "model.onnx.data"), (small, "model.onnx.1.data"), (onnx_model.save_onnx, None)):
        monkeypatch.setattr(outputs, "save_onnx", save)
        told = json.loads(run("convert", wide, "-o", "out", "--json").stdout)
        assert told["passed"]
        files = {path.name for path in (tmp_path / "out").iterdir()}
        assert files == {"model.onnx", "model.layers.json", "report.json", "report.html"} | ({data} if data else set())
        assert {Path(file).name for file in told["files"]} == files


def test_a_full_disk_is_one_line_and_leaves_nothing(converted: Path, tmp_path: Path) -> None:
    """No file may grow beyond 1000 bytes: to a program that is a disk that is full.

    Nor may Python cut short what it compiled, which other processes would read: -B.
    """
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    code = limited + "from normexport_cli.start import main; main()"
    words = ("fold", str(converted / "model.onnx"), "-o", "new/model.onnx")
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr == (
        "error: new/model.onnx: can't be written (File too large); free some space, or choose another output with -o\n"
    )
    assert not (tmp_path / "new").exists()


def test_permissions_of_a_replaced_output_are_kept(converted: Path, run: Run, tmp_path: Path) -> None:
    for name in ("model.onnx", "report.json"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("old")
        (tmp_path / "out" / name).chmod(0o600)
    result = run("fold", converted / "model.onnx", "-o", "out/model.onnx")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert stat.S_IMODE((tmp_path / "out" / "model.onnx").stat().st_mode) == 0o600


def test_a_read_only_output_is_refused_before_the_work(made: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("kept")
    (tmp_path / "out" / "report.json").chmod(0o444)
    result = run("convert", made / "model.pt2", "-o", "out")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "error: out/report.json: is read-only; make it writable, or choose another output with -o\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
