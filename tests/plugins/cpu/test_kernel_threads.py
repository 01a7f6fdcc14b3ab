"""Threads change when a result comes, never what it is."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from normexport.norms import Scope
from normexport.plugins import norm_call
from tests.plugins.cpu.kernel_cases import KINDS, case, needs_library

pytestmark = needs_library


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_threads_gives_the_same_bytes(kind: str, dtype: str) -> None:
    # The first two are split within a statistic, the others over statistics.
    for shape in [(3, 2, 200, 190), (200, 1, 700), (2, 60, 31, 31), (9, 40, 20, 20)]:
        x, scale, bias = case(shape, "float64", spread=25)
        x = x.astype(dtype)
        options: list[dict[str, Any]] = [
            {"k": 7},
            {"k": 300, "chunks": 37},
            {"scope": Scope.INSTANCE, "k": 20, "chunks": 3},
        ]
        for how in options:
            one = norm_call.norm(kind, x, scale, bias, threads=1, **how)
            for threads in (2, 3, 7):
                assert norm_call.norm(kind, x, scale, bias, threads=threads, **how).tobytes() == one.tobytes(), how


def test_callers_on_many_threads_get_their_own_results() -> None:
    cases = [case((2, 8, 60, 60), "float32", seed=seed) for seed in range(6)]
    expected = [norm_call.norm("topk", *each, threads=1) for each in cases]
    wrong = []

    def work(index: int) -> None:
        for _ in range(20):
            if norm_call.norm("topk", *cases[index], threads=3).tobytes() != expected[index].tobytes():
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(cases))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_idle_threads_sleep() -> None:
    import time

    x, scale, bias = case((8, 16, 60, 60), "float32")
    norm_call.norm("l1", x, scale, bias, threads=4)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    # A spinning thread would use half a second; the threads of other libraries in this process are allowed a little.
    assert time.process_time() - before < 0.1


def test_more_threads_than_work_is_fine() -> None:
    x, scale, bias = case((1, 1, 3), "float32")
    one = norm_call.norm("l2", x, scale, bias, threads=1)
    assert np.array_equal(norm_call.norm("l2", x, scale, bias, threads=16), one)
