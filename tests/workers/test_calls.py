"""Calls that do not come back, and clusters that do not answer: a line within a time, and Ctrl-C is heard."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import UsageError
from normexport.workers import Where, own_cluster, ray_cluster
from normexport.workers.calls import Call
from normexport.workers.ray_cluster import RayCluster

ROOT = Path(__file__).parents[2]


def test_a_call_gives_what_it_gave_and_raises_what_it_raised() -> None:
    given = Call(lambda: 7)
    assert given.is_done(10)
    assert given.result() == 7

    def fail() -> None:
        raise KeyError("x")

    failed = Call(fail)
    assert failed.is_done(10)
    with pytest.raises(KeyError):
        failed.result()


def test_one_that_hangs_neither_keeps_its_caller_nor_its_process() -> None:
    waiting = threading.Event()
    assert not Call(waiting.wait).is_done(0.05)
    waiting.set()
    code = (
        "import threading\nfrom normexport.workers.calls import Call\nprint(Call(threading.Event().wait).is_done(0.05))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False\n", "")


class Ray:
    """As much of Ray as says which nodes live; its calls may hang."""

    def __init__(self, alive: bool = True, hangs: tuple[str, ...] = ()) -> None:
        self.alive, self.hangs, self.asked = alive, hangs, 0

    def get_runtime_context(self) -> Any:
        return self

    def get_node_id(self) -> str:
        return "mine"

    def nodes(self) -> list[dict[str, Any]]:
        self.asked += 1
        self._hang("nodes")
        return [{"NodeID": "mine", "Alive": self.alive}, {"NodeID": "other", "Alive": True}]

    def wait(self, tasks: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        time.sleep(0.01)
        return (tasks[:1], tasks[1:]) if self.asked > 2 else ([], tasks)

    def get(self, task: str) -> str:
        self._hang("get")
        return f"{task}!"

    def cancel(self, task: str, force: bool) -> None:
        self._hang("cancel")

    def _hang(self, name: str) -> None:
        if name in self.hangs:
            threading.Event().wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes seconds takes a few hundredths."""
    for name in ("_LOOKED_AFTER", "_ANSWERED_WITHIN", "_GIVEN_UP_WITHIN", "_LEFT_WITHIN"):
        monkeypatch.setattr(ray_cluster, name, 0.1)
    monkeypatch.setattr(own_cluster, "_ENDED_WITHIN", 1.0)


def cluster(ray: Ray) -> RayCluster:
    return RayCluster(ray, Where.of("ray:10.0.0.1:6379"))


def test_a_cluster_that_lives_is_waited_for() -> None:
    ray = Ray()
    assert cluster(ray).first_of(["a", "b"]) == ("a", "a!")
    assert ray.asked > 2
    begun = time.monotonic()
    waiting = threading.Event()
    assert not cluster(ray).ask(lambda: waiting.wait(0.35))
    assert time.monotonic() - begun >= 0.35


@pytest.mark.parametrize(
    ("ray", "told"),
    [
        (Ray(alive=False), "hangs, or has died: its head takes this machine's node for dead; start it again"),
        (Ray(hangs=("nodes",)), "hangs: its head has not answered for 0.1 s; start it again"),
    ],
)
def test_one_that_does_not_is_a_line(ray: Ray, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        cluster(ray).first_of(["a"])
    assert str(refused.value).startswith(f"--on ray:10.0.0.1:6379: {told}")
    with pytest.raises(UsageError, match="hangs"):
        cluster(ray).ask(threading.Event().wait)


def test_what_is_given_up_is_not_waited_for_either() -> None:
    began = time.monotonic()
    cluster(Ray(hangs=("cancel",))).give_up(["a", "b"])
    assert time.monotonic() - began < 10


def test_leaving_a_cluster_that_hangs_ends_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, dropped = threading.Event(), list[Any]()
    monkeypatch.setattr(atexit, "unregister", dropped.append)

    class Hanging(Ray):
        @staticmethod
        def shutdown() -> None:
            waiting.wait()

    ray_cluster._leave(Hanging())
    assert dropped == [Hanging.shutdown]
    waiting.set()
    ray_cluster._leave(Hanging())
    assert dropped == [Hanging.shutdown]


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The address of a socket at which connections are taken, and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class NotJoined:
    """Ray that is asked for no more than whether a cluster is joined already."""

    @staticmethod
    def is_initialized() -> bool:
        return False


def test_a_head_that_takes_connections_and_never_answers_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")
    monkeypatch.setattr(own_cluster, "JOINED_WITHIN", 6.0)
    with (
        deaf() as address,
        pytest.raises(UsageError) as refused,
        ray_cluster.joined(NotJoined(), Where.of(f"ray:{address}")),
    ):
        pass
    told = str(refused.value)
    assert told.startswith(f"--on ray:{address}: can't be reached or started (")
    assert "\n" not in told


def test_ctrl_c_is_heard_while_a_head_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")
    files = [ROOT / "examples/checkpoints/rows_l1.pt2", ROOT / "examples/digits.npz"]
    words = [sys.executable, "-m", "normexport_cli", "calibrate", "collect", str(files[0]), "--data", str(files[1])]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), *sys.path])
    with deaf() as address, socket.socket():
        running = subprocess.Popen(
            [*words, "--on", f"ray:{address}", "-o", str(tmp_path / "s.json"), "-q"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + 120
        while not _is_joining(running.pid):
            assert time.monotonic() < end
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=60) == ("", "interrupted\n")
    assert running.returncode == 130
    assert not (tmp_path / "s.json").exists()


def _is_joining(pid: int) -> bool:
    """Whether the process has one that tries to join a cluster."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                return b"cluster_host" in (entry / "cmdline").read_bytes()
    return False


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["inspect", "no/such.onnx"], 2)])
def test_a_command_that_leaves_a_cluster_hanging_ends_at_once_with_its_own_code(words: list[str], code: int) -> None:
    program = (
        "import atexit, sys\nfrom normexport.workers import ray_cluster\nray_cluster._hanging.append(1)\n"
        f"atexit.register(print, 'late')\nsys.argv = ['normexport', *{words!r}]\n"
        "from normexport_cli.start import main\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools"), *sys.path])}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == code
    assert "late" not in ended.stdout
    assert (ended.stdout if code == 0 else ended.stderr).endswith("\n")
