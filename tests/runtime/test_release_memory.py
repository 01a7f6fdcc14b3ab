"""Graphs are cycles of nodes and values: what a dropped one held comes back before the next is loaded."""

from __future__ import annotations

import gc
import sys
import weakref

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


def test_a_dropped_graph_keeps_its_weights_until_memory_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_own_memory", lambda: 5 * memory._MORE)
    monkeypatch.setattr(memory._Level, "held", 4 * memory._MORE)
    gc.disable()
    try:
        weights = _dropped_graph()
        assert weights() is not None, "the graph is no cycle, and nothing has to be done for it"
        release_memory()
        assert weights() is None
    finally:
        gc.enable()


def test_a_process_that_has_not_grown_is_not_searched_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_own_memory", lambda: 5 * memory._MORE)
    monkeypatch.setattr(memory._Level, "held", 4 * memory._MORE + 1)
    gc.disable()
    try:
        weights = _dropped_graph()
        release_memory()
        assert weights() is not None
        monkeypatch.setattr(memory, "_own_memory", lambda: 4 * memory._MORE)
        release_memory()  # from now on it has grown from there
        monkeypatch.setattr(memory, "_own_memory", lambda: 5 * memory._MORE)
        release_memory()
        assert weights() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a process holds")
def test_what_a_process_holds_itself_grows_with_its_arrays() -> None:
    before = memory._own_memory()
    array = np.ones(1 << 25, np.float64)
    assert 0.9 * array.nbytes < memory._own_memory() - before < 1.5 * array.nbytes
