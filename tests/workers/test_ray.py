"""Real Ray, two nodes: the bytes of one process, whatever dies or joins on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import normexport
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.int8.gather import gather
from normexport.precision.int8.state import CalibrationState
from normexport.precision.int8.state_files import read_state
from normexport.precision.numbered import Numbered, numbered, samples_by_number
from normexport.workers import LOCAL, Where, run_in_order
from tests.precision import nets
from tests.workers.clusters import NODE, two_nodes
from tests.workers.killed import Samples

pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.npz"
#: One of them keeps live norms.
EXAMPLES = ("residual_l1.pt2", "plain_l1_instance.pt2", "rows_l1.pt2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


@pytest.fixture(scope="module")
def on(cluster: Any) -> Where:
    return Where(True, cluster.address)


def batched(samples: Any, spec: InputSpec = nets.SPEC, batch: int = 3) -> Numbered:
    return numbered(samples_by_number(samples, (spec,)), batch)


@pytest.fixture(scope="module")
def live() -> ir.Model:
    return nets.folded(nets.live)[0]


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"--on ray:127.0.0.1:9: can't be reached or started") as refused:
        next(iter(run_in_order(Where(True, "127.0.0.1:9"), open_versions, None, ["0.1"])))
    assert "\n" not in str(refused.value)


def test_a_raylet_that_ends_as_it_starts_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raylet").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "raylet").chmod(0o755)
    (tmp_path / "host_raylet.py").write_text(
        "import sys\nfrom ray._private import services\nfrom normexport.workers.cluster_host import main\n"
        f"services.RAYLET_EXECUTABLE = {str(tmp_path / 'raylet')!r}\nmain(float(sys.argv[1]), int(sys.argv[2]))\n"
    )
    mark = f"NORMEXPORT_MARK={uuid.uuid4().hex}"
    code = (
        "from normexport.workers import Where, own_cluster, run_in_order\nown_cluster._HOST = 'host_raylet'\n"
        "from tests.workers.test_where import open_squares\n"
        "try:\n    list(run_in_order(Where.of('ray', 1), open_squares, 0, [1]))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tools"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **dict([mark.split("=", 1)])}
    words = [sys.executable, "-c", code]
    ended = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    (line,) = ended.stdout.splitlines()
    assert line.startswith("UsageError --on ray: can't be reached or started (")
    assert (ended.returncode, ended.stderr) == (0, "")
    _require_none_left(mark)


@pytest.mark.parametrize("example", EXAMPLES)
def test_any_number_of_workers_gives_the_bytes_of_one_process(example: str, on: Where, tmp_path: Path) -> None:
    """Calibration files, int8 models, accuracy counts and tables of sensitivity."""
    source = ROOT / "examples" / "checkpoints" / example
    places = (LOCAL, *(replace(on, workers=workers) for workers in (1, 2, 4)))
    found = []
    for number, where in enumerate(places):
        state, folder = tmp_path / f"{number}.json", tmp_path / str(number)
        normexport.calibrate(source, DIGITS, state, config=normexport.CalibrateConfig(on=where))
        config = normexport.Int8(DIGITS, table=True, on=where, effort="none")
        converted = normexport.convert(source, folder, config=normexport.ConvertConfig(precision=config))
        assert converted.precision is not None
        float32 = ir.load(folder / "model.onnx")
        accuracy = normexport.evaluate(float32, DIGITS, on=where)
        counts = accuracy.correct, accuracy.interval, accuracy.value
        found.append(
            (state.read_bytes(), (folder / "model.onnx").read_bytes(), counts, converted.precision.sensitivity)
        )
    assert found[0][3]
    for name, each in zip(("states", "models", "counts", "tables"), zip(*found, strict=True), strict=True):
        assert all(other == each[0] for other in each), name


def open_numbers(job: int) -> Callable[[int], int]:
    def compute(part: int) -> int:
        if part == job:
            raise UsageError(f"part {part}", "is not computed", "leave it out")
        return part

    return compute


def test_quick_parts_that_share_tasks_come_each_once_and_in_order(on: Where) -> None:
    assert list(run_in_order(on, open_numbers, -1, range(200))) == list(range(200))


def test_a_part_that_fails_among_quick_ones_says_so_and_is_not_passed_over(on: Where) -> None:
    found: list[int] = []
    with pytest.raises(UsageError, match="part 150: is not computed"):
        found += run_in_order(on, open_numbers, 150, range(200))
    assert found == list(range(len(found)))
    assert len(found) <= 150


def test_a_worker_that_is_killed_changes_no_byte(live: ir.Model, on: Where, tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    whole = gather(live, batched(Samples(mark)))
    found = gather(live, batched(Samples(mark, fatal=13)), on)
    assert mark.exists()
    assert found.text() == whole.text()


def test_a_part_that_kills_every_worker_is_an_error(live: ir.Model, on: Where, tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "folder"  # the mark can't be set: each process that reads the sample ends
    with pytest.raises(UsageError, match=r"lost a part 6 times|could not compute a part"):
        gather(live, batched(Fatal(nowhere)), on)


class Fatal(Samples):
    def __getitem__(self, number: int) -> Any:
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)


def test_a_node_that_joins_late_or_dies_changes_no_byte(
    cluster: Any, live: ir.Model, tmp_path: Path, on: Where
) -> None:
    whole = gather(live, batched(Samples(tmp_path / "x")))
    nodes: list[Any] = []

    def change(seen: int) -> None:
        if not nodes:
            nodes.append(cluster.add_node(**NODE))
        elif seen > 15 and nodes[0] is not None:
            cluster.remove_node(nodes[0], allow_graceful=False)
            nodes[0] = None

    slow = Samples(tmp_path / "x", seconds=0.1)
    assert gather(live, batched(slow), on, on_batch=change).text() == whole.text()
    assert nodes == [None]


@pytest.mark.parametrize("where", ["local", "ray"])
def test_a_driver_that_is_killed_is_gone_on_with_to_the_same_bytes(where: str, live: ir.Model, tmp_path: Path) -> None:
    state, mark = tmp_path / "state.json", f"NORMEXPORT_MARK={uuid.uuid4().hex}"
    words = [sys.executable, "-m", "tests.workers.driver", str(state), where, "3"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **dict([mark.split("=", 1)])}
    ended = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, timeout=400)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    begun = read_state(state)
    assert 0 < len(begun.samples) < 24
    data = batched(Samples(tmp_path / "state.mark"))
    assert gather(live, data, begun=begun).text() == gather(live, data).text()
    _require_none_left(mark)


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    state, mark = tmp_path / "state.json", f"NORMEXPORT_MARK={uuid.uuid4().hex}"
    images = np.tile(np.load(DIGITS)["input"], (600, 1, 1, 1))  # not done before the signal comes
    np.savez(tmp_path / "many.npz", input=images)
    example = ROOT / "examples" / "checkpoints" / EXAMPLES[1]
    words = [sys.executable, "-m", "normexport_cli", "calibrate", "collect", str(example)]
    words += ["--data", str(tmp_path / "many.npz"), "--on", "ray", "-o", str(state)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **dict([mark.split("=", 1)])}
    running = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: state.exists() or running.poll() is not None, 300)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=90)[1] == "interrupted\n"
    assert running.returncode == normexport.ExitCode.INTERRUPTED
    _require_none_left(mark)


def test_workers_that_round_otherwise_are_refused_by_name(on: Where) -> None:
    """As a node with another version of ONNX Runtime is, or one that lacks the native library."""
    with pytest.raises(UsageError, match=r"computed by ONNX Runtime 0.2, and the other by ONNX Runtime 0.1"):
        list(_sums(run_in_order(on, open_versions, None, ["0.1", "0.2"])))


def open_versions(job: None) -> Callable[[str], CalibrationState]:
    return lambda version: CalibrationState("0" * 64, f"ONNX Runtime {version}", 8)


def _sums(states: Iterator[CalibrationState]) -> Iterator[CalibrationState]:
    from normexport.precision.int8.state import merge

    whole = next(states)
    for each in states:
        yield merge(whole, each)


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def _require_none_left(mark: str) -> None:
    """No process but zombies has the mark in its environment; Ray's agents see the end of their node after a while."""

    def none_left() -> bool:
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                    return False
            except OSError:
                continue
        return True

    _wait_for(none_left, 90)
