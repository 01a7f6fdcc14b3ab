"""ONNX files that nobody vouches for: no few bytes become gigabytes, and damage is one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import normexport
from normexport.io.onnx_model import open_onnx
from normexport.verbs.fold import fold
from tests.io import onnx_attacks as attacks
from tests.io.refusals import refusal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (attacks.dims(10**12), r"tensor w: holds 36 bytes, its shape \[1000000000000\] takes 4000000000000"),
        (attacks.dims(1 << 62, 1 << 62, 4), "tensor w: holds 36 bytes, its shape"),
        (attacks.dims(-3, -3), "tensor w: has a negative dimension"),
        (attacks.dims(*[1] * 65), "tensor w: has 65 dimensions"),
        (attacks.laughs(), "more than 200000 nodes, functions counted where they are called"),
        (attacks.circle(), "deep within each other, or call themselves"),
        (attacks.laughs(100), "has more than 200000 nodes|deep within each other"),
        (attacks.nested(3000), "not an ONNX file, or cut short"),
        (attacks.empty_nodes(1 << 20), "has more than 200000 nodes"),
        (attacks.hollow(), "its graph can't be read"),
        (attacks.versionless(), "node Conv 'conv': is of ONNX's own operators, of which the file names no version"),
        (attacks.spread(), "node Conv 'conv': is spread over devices, which is not read"),
    ],
    ids=[
        "1e12",
        "overflow",
        "negative",
        "rank",
        "laughs",
        "circle",
        "high",
        "nested",
        "empty nodes",
        "hollow",
        "versions",
        "devices",
    ],
)
def test_a_bomb_is_refused_in_one_line(tmp_path: Path, proto: bytes | onnx.ModelProto, words: str) -> None:
    path = attacks.write(proto, tmp_path / "m.onnx")
    assert re.search(words, refusal(fold, path, tmp_path / "out.onnx"))
    assert os.listdir(tmp_path) == ["m.onnx"]


_IN_LITTLE_MEMORY = """
import sys, pathlib
from normexport.verbs.fold import fold
result = fold(sys.argv[1])
# Not getrusage: its peak begins with that of the process which started this one.
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) >> 10
print(peak, [(norm.fate, norm.reason) for norm in result.outcomes])
"""


@pytest.mark.parametrize(
    "proto",
    [attacks.doubled(), attacks.expanded(), attacks.towers(), attacks.outer_product(), attacks.flattened()],
    ids=["concat", "expand", "towers", "outer product", "flatten"],
)
def test_constants_that_expand_to_gigabytes_are_left_to_inference(tmp_path: Path, proto: onnx.ModelProto) -> None:
    """A file of a few kilobytes makes its reader take less than 1.5 GB, and its norm tells why it stays."""
    path = attacks.write(proto, tmp_path / "m.onnx")
    code = [sys.executable, "-c", _IN_LITTLE_MEMORY, str(path)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    peak, outcomes = done.stdout.split(" ", 1)
    assert int(peak) < 1500
    assert "live" in outcomes or "lowered" in outcomes
    assert "MiB" in outcomes or "channels" in outcomes or "broadcast" in outcomes, outcomes


def test_a_signal_that_ends_the_runtime_becomes_one_line(tmp_path: Path) -> None:
    path = attacks.write(attacks.lowest_by_minus_one(), tmp_path / "m.onnx")
    line = refusal(normexport.check, path, path)
    assert "m.onnx: the process that ran it was ended by SIG" in line


@pytest.mark.parametrize("name", [b"bn", b"normalized", b"Relu", b"w.bin", b"a note"])
def test_text_that_is_no_utf8_is_refused_wherever_it_stands(folder: Path, name: bytes) -> None:
    proto = attacks.PLACES["initializer"](attacks.outside("w.bin"))
    (folder / "w.bin").write_bytes(attacks.SECRET)
    proto.graph.node.add(op_type="Relu", input=["y"], output=["normalized"], doc_string="a note")
    broken = proto.SerializeToString().replace(name, b"\xff" * len(name))
    line = refusal(open_onnx, attacks.write(broken, folder / "m.onnx"))
    assert line.isprintable()
    assert "UTF-8" in line or "xff" in line
