"""Where outputs can't go, and what the system refuses: one line, exit code 2, nothing replaced."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest
from normexport_cli import failures


def _fold_or_export(command, made, converted):
    return {
        "fold": ("fold", converted / "model.onnx"),
        "export": ("export", made / "model.pt2"),
    }[command]


@pytest.mark.parametrize("command", ["fold", "export"])
def test_an_output_that_is_a_folder_is_refused(command, made, converted, run, tmp_path):
    (tmp_path / "folder").mkdir()
    result = run(*_fold_or_export(command, made, converted), "-o", tmp_path / "folder")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "folder: is a folder; name the file to write" in line


@pytest.mark.parametrize("command", ["fold", "export"])
def test_a_special_file_is_never_renamed_over(command, made, converted, run, tmp_path):
    """`-o /dev/null` by root would leave the machine without its /dev/null; a pipe stands in for it."""
    os.mkfifo(tmp_path / "special")
    result = run(*_fold_or_export(command, made, converted), "-o", tmp_path / "special")
    assert result.exit_code == 2
    assert "special: is not a regular file" in result.stderr
    assert stat.S_ISFIFO((tmp_path / "special").stat().st_mode)


def test_a_name_that_is_too_long_is_no_bug(run):
    result = run("inspect", "a" * 300 + ".pt")
    assert result.exit_code == 2
    assert "can't be read or written (File name too long); check the path" in result.stderr


def test_a_full_disk_is_no_bug(capsys):
    error = OSError(errno.ENOSPC, "No space left on device")
    assert failures.report(error, as_json=True, debug=False) == 2
    assert json.loads(capsys.readouterr().out)["error"]["place"] == "output"


@pytest.mark.parametrize("words", [("--help",), ("convert", "--help")])
def test_a_reader_of_help_who_leaves_early_gets_exit_code_0(words, run_into_closed_pipe):
    result = run_into_closed_pipe(*words)
    assert (result.returncode, result.stderr) == (0, "")


def test_help_explains_its_symbols_and_shows_no_type_for_flags(run):
    text = run("convert", "--help").stdout
    assert "d: what training divides by" in text
    (trust,) = (line for line in text.splitlines() if "--trust" in line)
    assert "<bool>" not in trust
