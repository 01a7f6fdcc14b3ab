"""The tables of `bench`: whole at 80 columns, however long the paths are."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from normexport.reports.bench_table import show_benchmark
from normexport.timing.intervals import Interval
from normexport.timing.result import Benchmark, Ratio, Timing

LONG = "/a/folder/of/many/words/and/" + "more/" * 12 + "model.onnx"


def timing(file: str, runtime: str) -> Timing:
    return Timing(file, runtime, 1, 8, np.full(40, 0.0123), 0.05, 0.2, 250_000_000, True)


def test_tables_are_whole_at_80_columns_however_long_paths_are() -> None:
    cases = (timing(LONG, "onnxruntime"), timing(LONG, "torch-compiled"), timing("b\x1b[31m.onnx", "openvino"))
    ratios = (Ratio(1, 0, Interval(1.05, 1.03, 1.07), True, 12), Ratio(2, 0, Interval(0.999, 0.99, 1.01), True, 12))
    console = Console(file=io.StringIO(), width=80)
    show_benchmark(console, Benchmark(cases, ratios, False, {"processor": "x86-64"}))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:5] == ["A", "1", "onnxruntime", "1", "8"] for line in lines)
    assert any(line.startswith("B     A        1.050x  1.030 to 1.070  5.0 % slower") for line in lines)
    assert any(line.startswith("C     A        0.999x  0.990 to 1.010  no difference") for line in lines)
    assert "\x1b" not in console.file.getvalue()
    assert "".join(line[11:] for line in lines if "/" in line and ":" not in line).startswith(LONG[:40])
