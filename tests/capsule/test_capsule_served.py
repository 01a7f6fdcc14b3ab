"""`prove --url`: a model on a server, right, wrong in every way, silent, and gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner, Result

import normexport
from normexport.errors import ExitCode, UsageError
from normexport.runtime.served_address import Address
from normexport.verdicts import Verdict
from tests.capsule.conftest import Sealed
from tests.capsule.stand_in_server import Change, Outputs, StandIn, serving

pytestmark = pytest.mark.slow

pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")


@pytest.fixture
def stand_in(sealed: Sealed) -> StandIn:
    return StandIn(sealed.model)


@pytest.fixture
def url(stand_in: StandIn) -> Iterator[str]:
    with serving(stand_in) as url:
        yield url


def prove(sealed: Sealed, *words: object) -> Result:
    return CliRunner().invoke(app, ["prove", str(sealed.path), *map(str, words)])


def test_what_is_right_passes_by_the_command(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    result = prove(sealed, "--url", url)
    assert result.exit_code == ExitCode.GOOD, result.output
    assert "PASSED" in result.stdout
    assert "net on stand-in 1.0" in result.stdout
    assert stand_in.requests > 1


def test_versions_of_server_model_and_capsule_stand_side_by_side(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    note = next(line for line in normexport.prove(sealed.path, url=url).notes if line.startswith("server: "))
    own = f"normexport {normexport.__version__}, onnxruntime {onnxruntime.__version__}"
    assert note == f"server: stand-in 1.0; its model was made by: not told; the capsule by: {own}"
    told = {"normexport.version": "0.0.7", "normexport.onnxruntime.version": "1.99.0\x1b[31m", "other.version": "5"}
    stand_in.config = {"parameters": {key: {"string_value": value} for key, value in told.items()}}
    shown = "".join(prove(sealed, "--url", url).stdout.split())
    assert "itsmodelwasmadeby:normexport0.0.7,onnxruntime1.99.0\\x1b[31m;" in shown
    odd_ones: list[Any] = [[], {"normexport.version": []}, {"normexport.version": {"string_value": {}}}, "x"]
    for odd in odd_ones:
        stand_in.config = {"parameters": odd}
        assert normexport.prove(sealed.path, url=url).passed


def test_a_server_without_binary_numbers_is_sent_json(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    stand_in.extensions = []
    assert normexport.prove(sealed.path, url=url).passed


def nan(outputs: Outputs) -> Outputs:
    first = next(iter(outputs))
    outputs[first] = outputs[first].copy()
    outputs[first].flat[0] = np.nan
    return outputs


def second(change: str) -> Change:
    def changed(outputs: Outputs) -> Outputs:
        names = list(outputs)
        values = outputs[names[2]]
        outputs[names[2]] = {
            "off": values * 1.01,
            "double": values.astype(np.float64),
            "shape": values[None],
            "whole": values.astype(np.int64),
            "few": values[:-1] if len(values) > 1 else values[:0],
        }[change]
        return outputs

    return changed


@pytest.mark.parametrize("change", ["off", "double", "shape", "whole", "few"])
def test_a_later_output_that_is_wrong_fails(sealed: Sealed, url: str, stand_in: StandIn, change: str) -> None:
    stand_in.change = second(change)
    assert normexport.prove(sealed.path, url=url).judgement.verdict is Verdict.FAILED


def test_nan_fails_and_a_missing_output_and_one_under_another_name(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    for change in (
        nan,
        lambda outputs: dict(list(outputs.items())[:-1]),
        lambda outputs: {f"{name}_": values for name, values in outputs.items()},
        lambda outputs: {},
    ):
        stand_in.change = change
        result = prove(sealed, "--url", url)
        assert result.exit_code == ExitCode.FAILED, result.output


@pytest.mark.parametrize("lie", ["near", "nan", "renamed", "rolled"])
def test_one_wrong_answer_among_many_fails(sealed: Sealed, url: str, stand_in: StandIn, lie: str) -> None:
    """As of a replica behind a balancer: the last answer alone is wrong, of the right shapes and types."""
    assert normexport.prove(sealed.path, url=url).passed
    last = 2 * stand_in.requests

    def wrong(outputs: Outputs) -> Outputs:
        names = list(outputs)
        if lie == "nan":
            return nan(outputs)
        if lie == "renamed":
            return {f"{name}_0": values for name, values in outputs.items()}
        if lie == "rolled":
            return {name: np.roll(values, 1, axis=-1) for name, values in outputs.items()}
        return {name: values * (1.001 if name == names[0] else 1) for name, values in outputs.items()}

    stand_in.change = lambda outputs: wrong(outputs) if stand_in.requests == last else outputs
    report = normexport.prove(sealed.path, url=url)
    assert stand_in.requests == last
    assert report.judgement.verdict is Verdict.FAILED, report.judgement


def test_answers_of_another_request_fail(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    """Rows of a batch that come back in another order, as a server that mixes up clients would send them."""
    stand_in.change = lambda outputs: {name: values[::-1] for name, values in outputs.items()}
    assert normexport.prove(sealed.path, url=url).judgement.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b'HTTP/1.1 500 Internal\r\nContent-Length: 17\r\n\r\n{"error": "\x1b[2J"}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"outputs": [1]}'[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"\x00\x01\x02 garbage",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        2.5,
    ],
    ids=["dropped", "cut", "error", "list", "numbers", "null", "garbage", "redirect", "silent"],
)
def test_what_is_no_answer_fails_in_one_line_and_within_its_time(
    sealed: Sealed, url: str, stand_in: StandIn, answer: bytes | float
) -> None:
    stand_in.answer = answer
    result = prove(sealed, "--url", url, "--timeout", 0.5)
    assert result.exit_code == ExitCode.FAILED, (result.output, result.exception)
    assert "PASSED" not in result.output
    assert "\x1b[2J" not in result.output
    assert "Traceback" not in result.output


def test_an_answer_that_drips_is_given_up_after_its_time(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    """A byte now and then keeps a socket's own timeout from ever ending."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not stop.wait(0.1):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    threading.Thread(target=drip, daemon=True).start()
    place = f"http://127.0.0.1:{listening.getsockname()[1]}/net"
    try:
        with pytest.raises(UsageError, match=r"within 1 s|ready"):
            normexport.prove(sealed.path, url=place, timeout=1)
    finally:
        stop.set()
        listening.close()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there_is_one_line(sealed: Sealed, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["prove", sealed.path, "--url", f"{scheme}://127.0.0.1:{port}/net", "--timeout", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "normexport_cli", *map(str, words)], capture_output=True, text=True, cwd=sealed.folder
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_model_that_the_server_lacks_is_one_line(sealed: Sealed, url: str) -> None:
    result = prove(sealed, "--url", url.replace("/net", "/other"))
    assert result.exit_code == ExitCode.USAGE
    assert "does not have the model other ready" in result.stderr


@pytest.mark.parametrize(
    "metadata",
    [
        {"inputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]},
        {"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 3, 8, 8]}]},
        {"inputs": [{"name": "x", "datatype": "STRINGS", "shape": [-1]}]},
        {"inputs": []},
        {"inputs": None},
        {"outputs": [{"name": "\x1b[2J"}]},
    ],
)
def test_a_model_that_reads_something_else_is_one_line(
    sealed: Sealed, url: str, stand_in: StandIn, metadata: dict[str, object]
) -> None:
    stand_in.metadata = metadata
    result = prove(sealed, "--url", url)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in result.output


def test_a_batch_that_the_server_does_not_take_is_left_out_and_all_of_them_prove_nothing(
    sealed: Sealed, url: str, stand_in: StandIn
) -> None:
    stand_in.config = {"max_batch_size": 2}
    report = normexport.prove(sealed.path, url=url)
    assert report.passed
    assert any("the server takes a batch of 1 to 2" in note for note in report.notes)
    stand_in.metadata = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [64, 3, 8, 8]}]}
    assert normexport.prove(sealed.path, url=url).judgement.verdict is Verdict.INCONCLUSIVE


def test_a_model_of_another_file_is_told(sealed: Sealed, url: str, stand_in: StandIn) -> None:
    stand_in.config = {"parameters": {"normexport.onnx.sha256": {"string_value": "0" * 64}}}
    (note,) = [note for note in normexport.prove(sealed.path, url=url).notes if "another file" in note]
    assert note.startswith("the server")


def test_candidate_and_server_are_one_of_two(sealed: Sealed, url: str) -> None:
    assert prove(sealed).exit_code == ExitCode.USAGE
    assert prove(sealed, sealed.model, "--url", url).exit_code == ExitCode.USAGE
    assert prove(sealed, "--url", url, "--timeout", 0).exit_code == ExitCode.USAGE
    assert prove(sealed, "--url", url, "--timeout", "nan").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("url", "server", "model", "version"),
    [
        ("http://host/net", "host:8000", "net", ""),
        ("grpc://host:9/net/3", "host:9", "net", "3"),
        ("https://host/a/b/v2/models/net/versions/2", "host:443/a/b", "net", "2"),
        ("http://[::1]:8000/v2/models/my%20net", "[::1]:8000", "my net", ""),
    ],
)
def test_addresses_are_read(url: str, server: str, model: str, version: str) -> None:
    read = Address.of(url)
    assert (read.server, read.model, read.version) == (server, model, version)


@pytest.mark.parametrize(
    "url",
    [
        *("host:8000/net", "ftp://host/net", "http:///net", "http://host", "http://host/", "http://u:p@host/net"),
        *("http://host/net?x", "grpc://host/a/v2/models/net", "http://host/a%2Fb", "http://host:99999/net"),
        *("http://host/a/b/c", "http://ho st/net", "http://host/n\x1b", "http://[::1/net", ""),
    ],
)
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Address.of(url)
