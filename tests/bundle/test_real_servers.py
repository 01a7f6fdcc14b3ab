"""Bundles served by real servers: many clients, every batch, a server that is killed; the health check over both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

import normexport
from normexport import capsule
from normexport.capsule import Capsule, Within
from normexport.errors import ExitCode, UsageError
from normexport.runtime.served import NoAnswer, ServedModel
from tests.bundle.servers import SERVERS, Server

pytestmark = pytest.mark.slow

pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")

CLIENTS, REQUESTS = 50, 8


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with SERVERS[request.param](bundles, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def known(bundles: Path) -> Capsule:
    return capsule.read(bundles / "triton" / "model.capsule.npz")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_health_check_passes(server: Server, bundles: Path, protocol: str) -> None:
    words = ["prove", str(bundles / "triton" / "model.capsule.npz"), "--url", server.urls[protocol]]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.GOOD, result.output
    assert "PARITY PASSED" in result.output


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_capsule_of_another_model_fails(
    server: Server, known: Capsule, tmp_path: Path, protocol: str, bundles: Path
) -> None:
    """A capsule whose weights were others: its references are moved by a hundredth."""
    runs = tuple(
        replace(
            run,
            outputs=tuple(
                replace(each, values=each.values * 1.01 if each.values.dtype.kind == "f" else each.values)
                for each in run.outputs
            ),
        )
        for run in known.runs
    )
    capsule.write(replace(known, runs=runs), tmp_path / "other.npz")
    assert normexport.prove(tmp_path / "other.npz", url=server.urls[protocol]).judgement.verdict.name == "FAILED"


@dataclass
class Tally:
    """What the clients met."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    unanswered: int = 0
    sizes: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


def rows_of(known: Capsule) -> list[tuple[int, int]]:
    return [(number, row) for number, run in enumerate(known.runs) for row in range(run.size)]


def check_rows(known: Capsule, chosen: list[tuple[int, int]], answers: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the answer to rows of the capsule; each has the budget of its run."""
    for at, (number, row) in enumerate(chosen):
        for output in known.runs[number].outputs:
            given, right, rule = answers[output.name][at], output.values[row], output.rule
            assert isinstance(rule, Within)
            if np.isfinite(rule.max_abs):
                wrong = not np.max(np.abs(given.astype(float) - right)) <= rule.max_abs
            else:
                wrong = not np.array_equal(given.reshape(right.shape), right)
            if wrong:
                return f"row {at} of {len(chosen)}, {output.name}: {given} instead of {right}"
    return None


def client(seed: int, url: str, known: Capsule, tally: Tally, stop: threading.Event) -> None:
    rng, rows = np.random.default_rng(seed), rows_of(known)
    done = 0
    while done < REQUESTS and not stop.is_set():
        try:
            with ServedModel(url, timeout=30) as model:
                while done < REQUESTS and not stop.is_set():
                    size = int(rng.integers(1, 33))
                    chosen = [rows[index] for index in rng.integers(len(rows), size=size)]
                    feeds = np.stack([known.runs[number].feeds["x"][row] for number, row in chosen])
                    answers = {name: answer.values for name, answer in model.infer({"x": feeds}).items()}
                    wrong = check_rows(known, chosen, answers)
                    done += 1
                    with tally.lock:
                        tally.sizes.add(size)
                        tally.right += wrong is None
                        tally.wrong += [] if wrong is None else [wrong]
        except (NoAnswer, UsageError):
            with tally.lock:
                tally.unanswered += 1
            stop.wait(0.3)


def test_fifty_clients_get_no_wrong_answer_while_the_server_is_killed_and_started_again(
    server: Server, known: Capsule
) -> None:
    tally, stop = Tally(), threading.Event()
    urls = [server.urls["http"], server.urls["grpc"]]
    threads = [
        threading.Thread(target=client, args=(seed, urls[seed % 2], known, tally, stop)) for seed in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    try:
        while tally.right < CLIENTS * REQUESTS // 4 and time.monotonic() < begun + 120:
            stop.wait(0.05)
        server.kill()
        stop.wait(1.0)
        server.start()
        until = time.monotonic() + 240
        for thread in threads:
            thread.join(max(0.1, until - time.monotonic()))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not tally.wrong, tally.wrong[:3]
    assert tally.right == CLIENTS * REQUESTS
    assert tally.unanswered > 0, "nobody noticed that the server was gone"
    assert tally.sizes == set(range(1, 33))


def test_a_server_that_dies_in_between_is_never_passed(server: Server, bundles: Path) -> None:
    server.kill()
    try:
        result = CliRunner().invoke(
            app,
            ["prove", str(bundles / "triton" / "model.capsule.npz"), "--url", server.urls["http"], "--timeout", "3"],
        )
        assert result.exit_code == ExitCode.USAGE
        assert len(result.stderr.splitlines()) == 1
    finally:
        server.start()
