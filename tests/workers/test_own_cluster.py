"""A cluster's process that does not start, hangs or is gone: one line, within a time, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from normexport.errors import UsageError
from normexport.workers import Where, own_cluster, run_in_order
from normexport.workers.own_cluster import NotStarted
from tests.workers.test_where import open_squares

#: What stands in for a cluster's process: it says who it is, then does one of these.
HOSTS = {
    "hang": "time.sleep(600)",
    "crash": "os.abort()",
    "end": "",
    "refuse": "print(json.dumps({'error': 'RuntimeError: no room\\nsecond line'}), flush=True); sys.stdin.read()",
    "start": "print(json.dumps({'address': '192.0.2.1:6379'}), flush=True); sys.stdin.read()",
    "stay": "print(json.dumps({'address': '192.0.2.1:6379'}), flush=True); time.sleep(600)",
}


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which hosts say who they are; they have a second to start, and one to end."""
    monkeypatch.setattr(own_cluster, "STARTED_WITHIN", 3.0)
    monkeypatch.setattr(own_cluster, "_ENDED_WITHIN", 1.0)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "pid"


def host(kind: str, pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import json, os, sys, time\nopen({str(pids)!r}, 'w').write(str(os.getpid()))\n{HOSTS[kind]}\n"
    (pids.parent / f"host_{kind}.py").write_text(code)
    monkeypatch.setattr(own_cluster, "_HOST", f"host_{kind}")


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("hang", "nothing came of it in 3 s"),
        ("crash", "a part of it crashed, or hung"),
        ("end", "a part of it crashed, or hung"),
        ("refuse", "RuntimeError: no room"),
    ],
)
def test_what_does_not_start_says_so_and_is_gone(
    kind: str, told: str, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host(kind, pids, monkeypatch)
    with pytest.raises(NotStarted) as refused, own_cluster.own_cluster(2):
        pass
    assert str(refused.value) == told
    assert not is_there(int(pids.read_text()))


@pytest.mark.parametrize("kind", ["start", "stay"])
def test_a_cluster_lives_as_long_as_the_block(kind: str, pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(kind, pids, monkeypatch)
    with own_cluster.own_cluster(None) as address:
        assert address == "192.0.2.1:6379"
        assert is_there(int(pids.read_text()))
    assert not is_there(int(pids.read_text()))


def test_an_interrupt_while_it_starts_ends_it(pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host("hang", pids, monkeypatch)
    monkeypatch.setattr(own_cluster, "STARTED_WITHIN", 60.0)

    def interrupt(*what: object) -> None:
        while not pids.exists() or not pids.read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(own_cluster, "_address", interrupt)
    with pytest.raises(KeyboardInterrupt), own_cluster.own_cluster(None):
        pass
    assert not is_there(int(pids.read_text()))


def test_its_process_ends_with_the_one_that_started_it(pids: Path) -> None:
    """However that ends: its input is closed by the system."""
    (pids.parent / "host_start.py").write_text(
        f"import json, os, sys\nopen({str(pids)!r}, 'w').write(str(os.getpid()))\n{HOSTS['start']}\n"
    )
    code = (
        "import os, signal\nfrom normexport.workers import own_cluster\nown_cluster._HOST = 'host_start'\n"
        "with own_cluster.own_cluster(None):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(pids.parent), *sys.path])
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    end = time.monotonic() + 20
    while _runs(int(pids.read_text())):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether it is there, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_start_that_fails_is_one_line(pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")
    host("crash", pids, monkeypatch)
    with pytest.raises(UsageError) as refused:
        next(iter(run_in_order(Where.of("ray"), open_squares, 0, [1])))
    assert str(refused.value).startswith("--on ray: can't be reached or started (a part of it crashed, or hung); look")
    assert "\n" not in str(refused.value)
