"""Models that can't be traced or translated: one line on stderr, whatever PyTorch and the model's own code print."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from normexport.errors import ExitCode
from tests.cli.conftest import command, environment

pytestmark = pytest.mark.slow

_NETS = """
import logging, sys, warnings
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, rest):
        super().__init__()
        self.fc, self.rest = nn.Linear(4, 4), rest

    def forward(self, x):
        return self.rest(self.fc(x))

def loud(y):
    print("printed")
    sys.stderr.write("written\\n")
    warnings.warn("warned")
    logging.getLogger("author").error("logged")
    return y if y.sum() > 0 else -y

def data_dependent():
    return Net(lambda y: y if y.sum() > 0 else -y)

def talkative():
    return Net(loud)

def leaving():
    return Net(lambda y: sys.exit(0))

def sparse():
    return Net(lambda y: torch.sparse.mm(y.to_sparse(), y.T))
"""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("data_dependent", ExitCode.REFUSED),
        ("talkative", ExitCode.REFUSED),
        ("sparse", ExitCode.REFUSED),
        ("leaving", ExitCode.USAGE),
    ],
)
def test_a_refusal_is_one_line_with_no_graph_and_no_word_of_the_model(
    tmp_path: Path, name: str, code: ExitCode
) -> None:
    (tmp_path / "quiet_nets.py").write_text(_NETS)
    linear = nn.Linear(4, 4)
    torch.save({f"fc.{key}": value for key, value in linear.state_dict().items()}, tmp_path / "w.pth")
    words = ("convert", "w.pth", "--model", f"quiet_nets:{name}", "--input", "4", "-o", "out")
    done = subprocess.run(command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert not done.stdout
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


class Grid(nn.Module):
    """Its operator warns, in C++, that it is called without `indexing`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.meshgrid(x[0], x[0])[0]


def test_a_warning_of_an_operator_in_a_program_is_not_seen(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(Grid(), (torch.zeros(2, 4),)), tmp_path / "grid.pt2")
    words = command("convert", "grid.pt2", "-o", "out", "--json")
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
