"""Real servers of a bundle, each in a process of its own that can be killed and started again.

Neither is a package that the tests can ask for, as both want other versions of numpy and protobuf. Where they are:

    NORMEXPORT_TEST_TRITON    a folder with the wheel of nvidia-pytriton, unpacked, which has Triton's own program
    NORMEXPORT_TEST_PYTHON    a Python 3.11 with onnxruntime and numpy below 2, for Triton's Python backend
    NORMEXPORT_TEST_MLSERVER  a Python with mlserver and onnxruntime
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

import pytest

HERE = Path(__file__).parent / "serving"


def folder_in(variable: str, what: str) -> Path:
    """The path that a variable names; the test is skipped where it names none."""
    given = os.environ.get(variable, "")
    if not given or not Path(given).exists():
        pytest.skip(f"{what} is not here: set {variable} (tests/bundle/servers.py)")
    return Path(given)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


class Server:
    """A server of one bundle; `kill` and `start` may take turns."""

    model = ""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self.http, self.grpc = free_ports()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def urls(self) -> dict[str, str]:
        return {
            "http": f"http://127.0.0.1:{self.http}/{self.model}",
            "grpc": f"grpc://127.0.0.1:{self.grpc}/{self.model}",
        }

    def command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when the model is ready."""
        words, environment = self.command()
        with self.log.open("ab") as log:
            # A session of its own: its workers are killed with it.
            self.process = subprocess.Popen(
                words, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/models/{self.model}/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        text = self.log.read_text(errors="replace")[-3000:]
        self.kill()
        raise AssertionError(f"the server did not start:\n{text}")

    def kill(self) -> None:
        """As a machine that fails: nothing is finished, nobody is told."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()


class Triton(Server):
    """Triton's own program on the bundle as it is, started by the bundle's own script."""

    model = "my_net"

    def __init__(self, bundles: Path, place: Path) -> None:
        home = folder_in("NORMEXPORT_TEST_TRITON", "Triton")
        self._python = folder_in("NORMEXPORT_TEST_PYTHON", "a Python for Triton")
        super().__init__(bundles / "triton", place / "log")
        self._triton = home / "pytriton" / "tritonserver"
        self._libraries = home / "nvidia_pytriton.libs"
        self._backends = place / "backends"
        shutil.copytree(self._triton / "backends" / "python", self._backends / "python")
        stub = self._backends / "python" / "triton_python_backend_stub"
        shutil.copyfile(self._triton / "python_backend_stubs" / "3.11" / stub.name, stub)
        for program in (stub, self._triton / "bin" / "tritonserver"):
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (self._backends / "onnxruntime").mkdir()
        shutil.copyfile(HERE / "triton_model.py", self._backends / "onnxruntime" / "model.py")

    def command(self) -> tuple[list[str], dict[str, str]]:
        options = {
            "backend-directory": self._backends,
            "cache-directory": self._triton / "caches",
            "http-address": "127.0.0.1",
            "grpc-address": "127.0.0.1",
            "http-port": self.http,
            "grpc-port": self.grpc,
            "allow-metrics": "false",
        }
        environment = {
            "PATH": f"{self._python.parent}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(self._libraries),
            "NORMEXPORT_TRITON": str(self._triton / "bin" / "tritonserver"),
        }
        words = [sys.executable, "start_server.py", *(f"--{name}={value}" for name, value in options.items())]
        return words, environment


class MLServer(Server):
    """MLServer on the file of the bundle."""

    model = "my_net"

    def __init__(self, bundles: Path, place: Path) -> None:
        self._python = folder_in("NORMEXPORT_TEST_MLSERVER", "MLServer")
        super().__init__(place / "mlserver", place / "log")
        self.folder.mkdir()
        shutil.copyfile(HERE / "mlserver_model.py", self.folder / "mlserver_model.py")
        settings: dict[str, object] = {
            "http_port": self.http,
            "grpc_port": self.grpc,
            "parallel_workers": 0,
            "host": "127.0.0.1",
        }
        settings |= {"metrics_endpoint": None, "debug": False}
        (self.folder / "settings.json").write_text(json.dumps(settings))
        model: dict[str, object] = {"name": self.model, "implementation": "mlserver_model.OnnxModel"}
        model |= {"parameters": {"uri": str(bundles / "folder" / "model.onnx")}}
        (self.folder / "model-settings.json").write_text(json.dumps(model))

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [str(self._python), "-m", "mlserver.cli.main", "start", "."], {
            "PATH": f"{self._python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
        }


SERVERS: dict[str, type[Triton] | type[MLServer]] = {"triton": Triton, "mlserver": MLServer}
