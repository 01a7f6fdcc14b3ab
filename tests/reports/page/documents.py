"""JSON of results, as the verbs give it, whose every text can be chosen: of a stranger's file, say."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

#: What names in files can hold: ends of scripts, elements, quotes, entities, directions, templates, formulas.
HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "' onmouseover='document.title=1' x='",
    "&lt;b&gt;&amp;amp;",
    "<!--<script>",
    "\u202egnp.exe\u2066\u200f",
    "line\nbreak\ttab\x00nul\x1b[31m",
    "\u2028\u2029",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:document.title='owned'",
    "$\\frac{1}{0}$",
    "]]></style><style>*{display:none}",
    "n" * 100_000,
]


def row(tensor: str, path: str = "", excess: float | None = 0.25, **changes: Any) -> dict[str, Any]:
    """A compared tensor that uses so much of its budget; None: beyond any."""
    sizes = {"max_abs": 4e-6 * (excess or 0), "rms": 1e-6 * (excess or 0)}
    passed = excess is not None and excess <= 1
    verdict = "passed" if passed else "failed"
    return {
        "tensor": tensor,
        "path": path,
        "type": "Conv2d" if path else "",
        "batch": "random x1, batch 1",
        "passed": passed,
        "verdict": verdict,
        "fault": None,
        "doubt": None,
        "excess": excess,
        "candidate": sizes,
        "baseline": sizes,
        "budget": {"rms": 1e-6, "max_abs": 4e-6},
        **changes,
    }


def parity(word: str = "output", excess: float | None = 0.25, doubt: str | None = None) -> dict[str, Any]:
    """Two outputs under one set of inputs, two boundaries of which the second uses `excess`."""
    bad = excess is None or excess > 1
    verdict = "failed" if bad else "inconclusive" if doubt else "passed"
    reasons = [f"{word}: is out of its budget"] if bad else [doubt] if doubt else []
    return {
        "passed": verdict == "passed",
        "verdict": verdict,
        "reasons": reasons,
        "reference": "PyTorch float64",
        "baseline": "PyTorch float32",
        "candidate": "ONNX Runtime",
        "precision": "float32",
        "first_divergence": f"layer1.{word}" if bad else None,
        "outputs": [row(word, excess=0.11), row("second", excess=excess, doubt=doubt)],
        "layers": [row("a", "stem", 0.2), row("b", f"layer1.{word}", excess)],
        "unchecked": [{"path": f"x.{word}", "reason": "is not in the candidate (folded away)"}],
        "notes": [f"a note on {word}"],
        "data": None,
    }


def precision(word: str = "layer1.conv1") -> dict[str, Any]:
    """int8 with everything that a report can hold."""
    output = {
        "passed": True,
        "verdict": "passed",
        "reasons": [],
        "name": word,
        "snr_db": 37.0,
        "channel_db": 30.5,
        "channel": "index 3 of axis 1",
        "agreement": 0.999,
        "varies": True,
    }
    accuracy = {
        "model": "ONNX Runtime",
        "samples": 500,
        "correct": 485,
        "interval": [0.951, 0.982],
        "agreement": 0.998,
        "snr_db": 37.0,
        "drop": 0.2,
        "metric": "top1",
        "value": 0.97,
        "samples_per_second": 812.0,
        "outputs": [output],
        "verdict": "passed",
        "reasons": [],
        "passed": True,
    }
    steps = [
        {"excluded": [word] * number, "snr_db": 30.0 + number, "drop": None, "latency_ms": 2.0 + number / 2}
        for number in range(3)
    ]
    bins = {"tensor": word, "low": -1.0, "width": 0.25, "counts": [1, 0, 40, 900, 50, 2, 0, 1], "range": [-0.5, 0.75]}
    return {
        "passed": True,
        "verdict": "passed",
        "reasons": [],
        "dtype": "int8",
        "remainder": "float32",
        "kept": [{"path": word, "reason": "left out so that the limit holds"}],
        "widened": [],
        "losses": [{"path": word, "message": "overflows"}],
        "norms": [{"node": "n", "path": word, "reason": "its input is not int8"}],
        "integer_nodes": 12,
        "accuracy": accuracy,
        "curve": steps,
        "notes": [f"note {word}"],
        "sensitivity": [{"path": word, "alone": 41.5, "without": 33.25}],
        "edits": [
            {
                "name": "equalised",
                "kept": True,
                "layers": 3,
                "before_db": 31.0,
                "after_db": 33.5,
                "reasons": [],
                "compared": f"on {word}",
            },
            {"name": "biases corrected", "kept": True, "layers": 3, "before_db": 31.0, "after_db": 33.5, "reasons": []},
        ],
        "calibration": {
            "method": "mse",
            "samples": 48,
            "histograms": [bins],
            "ranges": [{"tensor": word, "range": [-0.5, 4.0], "why": f"an edit changed {word}"}],
        },
    }


def conversion(word: str = "norm", excess: float | None = 0.25, **changes: Any) -> dict[str, Any]:
    """A conversion of three norms, one of each fate, with `word` wherever a file has a text."""
    outcomes: list[dict[str, Any]] = [
        {
            "node": f"n{fate}",
            "path": f"layer1.{word}.{fate}",
            "kind": "l1",
            "fate": fate,
            "rule": "producer",
            "into": [],
        }
        | {"reason": f"{fate} because of {word}"}
        for fate in ("folded", "lowered", "live")
    ]
    norm = {"kind": "l1", "dialect": "normexport", "channels": 8, "statistics": "running", "class_name": word}
    spec = {"name": word, "shape": [3, "H", "W"], "dtype": "float32"}
    compared = parity(word, excess)
    judged = {name: compared[name] for name in ("passed", "verdict", "reasons")}
    return {
        **judged,
        "path": f"/somewhere/{word}.pt2",
        "source": "program",
        "inputs": [spec],
        "norms": [{"path": each["path"], "health": [f"{word}: zero"], **norm} for each in outcomes],
        "weight_norms": [{"path": word, "layout": word, "axis": -1, "p": 2.0}],
        "notes": [word],
        "outcomes": outcomes,
        "warnings": [{"code": "dead", "node": word, "path": word, "message": word, "channels": [1]}],
        "operators": {"before": {"Conv": 3, word: 3}, "after": {"Conv": 3, "Mul": 1, "Add": 1}},
        "parity": compared,
        "files": [f"/out/{word}", "/out/model.onnx"],
        "seconds": {"load": 0.25, word: 1.5},
        "engine": None,
        "precision": None,
        "data": None,
        **changes,
    }


def snr(word: str = "logits") -> dict[str, Any]:
    """An int8 file judged by SNR, with a boundary."""
    output = {"passed": True, "verdict": "passed", "reasons": [], "snr_db": 31.0, "channel_db": None, "channel": ""}
    output |= {"agreement": None, "varies": True, "name": word}
    return {
        "passed": True,
        "verdict": "passed",
        "reasons": [],
        "reference": word,
        "candidate": word,
        "precision": "int8",
        "samples": 64,
        "inputs": "random",
        "min_snr": 25.0,
        "first_divergence": None,
        "outputs": [output],
        "layers": [{"path": word, "type": word, **output}],
        "data": None,
        "skipped": [word],
    }


def bench(word: str = "a.onnx") -> dict[str, Any]:
    """Two cases and how they compare."""
    case = {"file": word, "runtime": word, "threads": 2, "batch": 1, "calls": 100, "p50": 1e-3, "p90": 2e-3}
    case |= {"p99": None, "mean": 1e-3, "throughput": 1000.0, "load": 0.2, "first": 0.01, "peak_memory": 1 << 20}
    ratio = {"case": 1, "base": 0, "ratio": 1.05, "low": 1.02, "high": 1.08, "differs": True, "words": word}
    return {
        "timings": [case, case],
        "ratios": [ratio],
        "least_difference": 0.01,
        "inputs": "random",
        "machine": {"processor": word, "torch": "2.13.0"},
        "notes": [word],
    }


def inspection(word: str = "net.onnx") -> dict[str, Any]:
    """An ONNX file, looked at."""
    whole = conversion(word)
    port = {"name": word, "dtype": "float32", "shape": ["N", None, 8]}
    file = {
        "inputs": [port],
        "outputs": [{**port, "shape": None}],
        "opsets": {"": 20, word: 1},
        "ir_version": 10,
        "producer": word,
        "operators": {"Conv": 3, word: 1},
        "weights": {"float32": 1234},
        "precision": "float32",
        "bytes": 5000,
        "data_bytes": 0,
    }
    told = {name: whole[name] for name in ("path", "source", "norms", "weight_norms", "notes", "outcomes", "warnings")}
    return {**told, "outcomes_note": "", "file": file}


def evaluation(word: str = "model") -> dict[str, Any]:
    """What `evaluate` measured."""
    return {**precision(word)["accuracy"], "model": word, "data": None, "skipped": [word]}


def model(names: list[str]) -> ir.Model:
    """A chain of Relu and Add with these names, each name also a tensor's, and an input that is added again."""
    nodes, last = [], "x"
    for index, name in enumerate(names):
        operator, more = ("Relu", []) if index % 2 else ("Add", ["x"])
        nodes.append(helper.make_node(operator, [last, *more], [f"t{index}"], name))
        last = f"t{index}"
    info = helper.make_tensor_value_info
    unused = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["N", 4])], [info(last, TensorProto.FLOAT, ["N", 4])], [unused]
    )
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return ir.serde.deserialize_model(made)
