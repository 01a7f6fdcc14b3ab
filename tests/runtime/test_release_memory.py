"""Graphs are cycles of nodes and values: what a dropped one held comes back before the next is loaded."""

from __future__ import annotations

import gc
import math
import sys
import time
import weakref
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from normexport.runtime import memory, release_memory


class _Weights(np.ndarray):  # numpy's own arrays can be referred to weakly; a class of ours says whose they are
    pass


def _dropped_graph() -> weakref.ref[_Weights]:
    weights = np.ones(8, np.float32).view(_Weights)
    value = ir.Value(name="w", const_value=ir.Tensor(weights, name="w"))
    node = ir.Node("", "Identity", [value])
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[value], opset_imports={"": 18})
    found = weakref.ref(weights)
    del weights, value, node, graph
    return found


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A large process that has not looked for garbage yet, and does not by itself."""
    monkeypatch.setattr(memory, "_LARGE", 0)
    monkeypatch.setattr(memory._Look, "ended", -math.inf)
    monkeypatch.setattr(memory._Look, "took", 0.0)
    gc.disable()
    yield
    gc.enable()


def test_a_dropped_graph_keeps_its_weights_until_memory_is_released() -> None:
    weights = _dropped_graph()
    assert weights() is not None, "the graph is no cycle, and nothing has to be done for it"
    release_memory()
    assert weights() is None


def test_a_small_process_is_not_searched_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LARGE", 1 << 60)
    weights = _dropped_graph()
    release_memory()
    assert weights() is not None


def test_looking_for_garbage_takes_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(memory._Look, "ended", now - 3.0)
    monkeypatch.setattr(memory._Look, "took", 1.0)
    weights = _dropped_graph()
    release_memory()
    assert weights() is not None
    monkeypatch.setattr(memory._Look, "ended", now - 11.0)
    release_memory()
    assert weights() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a process holds")
def test_what_a_process_holds_itself_grows_with_its_arrays() -> None:
    before = memory._own_memory()
    array = np.ones(1 << 25, np.float64)
    assert 0.9 * array.nbytes < memory._own_memory() - before < 1.5 * array.nbytes
