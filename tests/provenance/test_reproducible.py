"""Same input, same versions, same options: same bytes, whatever the process, its threads, its time and its folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import normexport
from normexport.provenance.record import KEY, plain_options
from tests.capsule import sealed_net
from tests.cli import small_nets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Converts in every precision and folds; argv: the folder of the checkpoint, the folder to write to, threads.
PROGRAM = """
import os, sys
from pathlib import Path
source, out, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
import torch
torch.set_num_threads(threads)
import normexport
from normexport import ConvertConfig, Half, Int8
for name, precision in (
    ("fp32", None), ("fp16", Half()), ("int8", Int8(calibration=source / "samples.npz", min_snr=1.0))
):
    config = ConvertConfig(precision=precision, capsule=out / name / "c.npz")
    assert normexport.convert(source / "model.pt2", out / name, config=config).passed, name
normexport.convert(source / "plain.onnx", out / "onnx")
normexport.fold(source / "plain.onnx", out / "folded.onnx")
"""

FILES = [
    *(f"{precision}/{name}" for precision in ("fp32", "fp16", "int8") for name in ("model.onnx", "model.layers.json")),
    *("fp32/c.npz", "fp16/c.npz", "int8/c.npz", "onnx/model.onnx", "folded.onnx"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    sealed_net.saved(sealed_net.trained(), folder / "model.pt2")
    samples = np.random.default_rng(5).normal(1, 2, (32, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    normexport.export(folder / "model.pt2", output=folder / "plain.onnx")
    return folder


def made(source: Path, out: Path, *, threads: int, seed: str, cwd: Path) -> Path:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tools")))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed, "TZ": f"UTC-{threads}"}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(source), str(out), str(threads)]
    subprocess.run(command, check=True, env=environment, cwd=cwd)
    return out


@pytest.fixture(scope="module")
def twice(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same conversions in two processes, the second with a copy of the input elsewhere under another clock."""
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b") / "deeper" / "still"
    elsewhere = second / "source"
    elsewhere.mkdir(parents=True)
    for file in source.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    cores = len(os.sched_getaffinity(0))
    made(source, first / "out", threads=1, seed="1", cwd=first)
    made(elsewhere, second / "out", threads=min(cores, 4), seed="4242", cwd=second)
    return first / "out", second / "out"


@pytest.mark.parametrize("file", FILES)
def test_the_same_bytes_are_made(twice: tuple[Path, Path], file: str) -> None:
    first, second = (folder / file for folder in twice)
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()


def test_the_bytes_hold_no_path_and_no_name_of_this_machine(twice: tuple[Path, Path], source: Path) -> None:
    for folder in twice:
        for file in folder.rglob("model.onnx"):
            content = file.read_bytes()
            for words in (str(folder), str(source), os.uname().nodename, str(ROOT)):
                assert words.encode() not in content, words


def test_the_metadata_says_what_was_converted_and_how(twice: tuple[Path, Path], source: Path) -> None:
    model = onnx.load(twice[0] / "int8" / "model.onnx")
    (text,) = [entry.value for entry in model.metadata_props if entry.key == KEY]
    told = json.loads(text)
    hashed = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in ("model.pt2", "samples.npz")}
    assert [file["sha256"] for file in told["source"]] == [hashed["model.pt2"]]
    assert told["options"]["precision"]["calibration"] == {"sha256": hashed["samples.npz"]}
    assert told["versions"]["normexport"] == normexport.__version__
    assert told["versions"]["onnx"] == onnx.__version__
    onnx.checker.check_model(model, full_check=True)


def test_the_report_has_the_hash_of_every_other_file(twice: tuple[Path, Path]) -> None:
    for folder in (twice[0] / "fp32", twice[1] / "int8"):
        report = json.loads((folder / "report.json").read_text())
        told = {file["file"]: file["sha256"] for file in report["provenance"]["outputs"]}
        there = {file.name for file in folder.iterdir()} - {"report.json", "report.html"}
        assert set(told) == there
        for name, digest in told.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_another_input_and_another_option_tell_themselves_apart(source: Path, tmp_path: Path) -> None:
    def metadata(name: str, config: normexport.ConvertConfig) -> str:
        normexport.convert(source / "plain.onnx", tmp_path / name, config=config)
        props = onnx.load(tmp_path / name / "model.onnx").metadata_props
        return next(entry.value for entry in props if entry.key == KEY)

    plain = metadata("a", normexport.ConvertConfig())
    assert metadata("b", normexport.ConvertConfig(capsule=tmp_path / "b.npz")) == plain
    assert metadata("c", normexport.ConvertConfig(batches=(1, 3))) != plain


def test_how_a_checkpoint_was_read_is_told(tmp_path: Path) -> None:
    """The code of the network, its arguments and the dialect, which decide what the file means."""
    torch.save(small_nets.trained().state_dict(), tmp_path / "weights.pth")

    def told(name: str, **how: Any) -> Any:
        loaded = normexport.load(tmp_path / "weights.pth", **how)
        done = normexport.convert(loaded, tmp_path / name, ["3x8x8"])
        (text,) = [each.value for each in onnx.load(tmp_path / name / "model.onnx").metadata_props if each.key == KEY]
        assert json.loads(text)["options"]["load"] == done.provenance.options["load"]
        assert json.loads((tmp_path / name / "report.json").read_text())["provenance"]["options"] == json.loads(
            json.dumps(done.provenance.options)
        )
        return json.loads(text)["options"]

    named = told("a", model="tests.cli.small_nets:Small")
    assert named["load"] == {"model": "tests.cli.small_nets:Small"}
    assert named["inputs"] == ["3x8x8"]
    assert told("b", model=small_nets.Small) == named
    more = told("c", model="tests.cli.small_nets:Small", model_kwargs={}, trust=True)
    assert more["load"] == {**named["load"], "trust": True}
    torch.save({**small_nets.trained().state_dict(), "extra.x": torch.ones(3)}, tmp_path / "weights.pth")
    part = normexport.Part(ignored=("extra.",))
    assert told("d", model=small_nets.Small, part=part)["load"]["part"]["ignored"] == ["extra."]


def test_a_network_in_memory_says_nothing_of_how_it_was_read(tmp_path: Path) -> None:
    done = normexport.convert(small_nets.trained(), tmp_path / "a", ["3x8x8"])
    assert done.provenance.options["load"] == {}


def test_a_file_that_is_folded_anew_says_nothing_of_what_it_was_made_of(source: Path, tmp_path: Path) -> None:
    config = normexport.ConvertConfig(fold=False)
    normexport.convert(source / "plain.onnx", tmp_path / "kept", config=config)
    kept = onnx.load(tmp_path / "kept" / "model.onnx")
    assert KEY in {entry.key for entry in kept.metadata_props}
    assert normexport.fold(tmp_path / "kept" / "model.onnx", tmp_path / "folded.onnx").changed
    assert KEY not in {entry.key for entry in onnx.load(tmp_path / "folded.onnx").metadata_props}


def test_options_are_told_by_the_content_of_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.npy").write_bytes(b"1")
    first = plain_options(normexport.ConvertConfig(data=tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    assert plain_options(normexport.ConvertConfig(data=tmp_path / "two")) == first
    (tmp_path / "two" / "a.npy").rename(tmp_path / "two" / "b.npy")
    assert plain_options(normexport.ConvertConfig(data=tmp_path / "two")) != first


def test_a_function_among_the_options_is_told_by_its_name() -> None:
    config = normexport.ConvertConfig(metric=plain_options)
    assert plain_options(config)["metric"] == "normexport.provenance.record:plain_options"
    json.dumps(plain_options(config), allow_nan=False)
