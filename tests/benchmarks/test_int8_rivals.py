"""What the comparison with other int8 tools counts: agreement by margin, SNR, who leads by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'normexport[cpu]'")
pytest.importorskip("PIL", reason="Pillow is not installed: pip install pillow")

from int8_rivals import note_down
from rivals.judge import MARGINS, agreement, by_margin, snr_db
from rivals.networks import fix_size
from rivals.table import tables


def test_decisions_are_counted_by_the_margin_that_float32_has() -> None:
    exact = np.array([[0.0, 0.05], [0.0, 0.2], [2.0, 0.0], [0.0, 9.0]])
    found = np.array([[1.0, 0.0], [0.0, 0.2], [2.0, 0.0], [0.0, np.nan]])  # what holds a NaN decides nothing
    counts = {low: (count, alike) for low, count, alike in by_margin(exact, found, 1)}
    assert counts == {0.0: (1, 0), 0.1: (1, 1), 0.3: (0, 0), 1.0: (2, 1)}
    assert tuple(counts) == MARGINS
    assert agreement(exact, found, 1) == 0.5


def test_decisions_along_another_axis_are_counted_alike() -> None:
    dice = np.random.default_rng(0)
    exact, found = dice.normal(size=(5, 7, 4)), dice.normal(size=(5, 7, 4))
    turned = by_margin(exact.transpose(0, 2, 1), found.transpose(0, 2, 1), 1)
    assert by_margin(exact, found, 2) == turned
    assert sum(count for _, count, _ in by_margin(exact, found, 2)) == 35


def test_snr_is_about_the_mean_of_each_element_and_nan_is_the_worst() -> None:
    exact = np.array([[100.0], [102.0]])
    assert snr_db(exact, exact + np.array([[0.1], [-0.1]])) == pytest.approx(20.0)
    assert snr_db(exact, np.array([[100.0], [np.nan]])) == -np.inf
    assert snr_db(exact, exact) == np.inf


def row(*levels: float, agreement: float = 99.0, margins: Any = None) -> dict[str, Any]:
    return {
        "snr_db": list(levels),
        "agreement": agreement,
        "by_margin": margins,
        "bytes": 1000,
        "layers": [3, 4],
        "processor_seconds": 1.0,
        "megabytes": 10.0,
    }


def test_each_network_s_best_rival_is_what_ours_is_held_against(tmp_path: Path) -> None:
    networks: dict[str, dict[str, Any]] = {
        "first": {"ort minmax": row(30.0), "nncf default": row(33.0), "ours standard": row(34.5)},
        "second": {"quark adaround": row(40.0, 25.0), "ours standard": row(24.0, 30.0)},
        "third": {"ours standard": row(50.0)},
    }
    networks["first"]["ours high"] = row(34.0)
    networks["second"]["ort default"] = {"failed": "no"}
    for name, rows in networks.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(rows))
    text = tables(tmp_path)
    assert "ours standard less the best rival: median +0.2 dB, least -1.0 dB (second), 2 networks" in text
    assert "the better of ours standard and ours high less the best rival: median +0.2 dB" in text
    assert "ours high less the best rival: median +1.0 dB, least +1.0 dB (first), 1 networks; below" in text
    assert "below by more than 0.5 dB: second -1.0" in text
    assert "- second, ort default: no" in text


def test_margins_have_a_table_where_they_were_counted(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    rows = {"ours high": row(30.0, margins=[[0.0, 4, 2], [0.3, 6, 6]]), "ort default": row(3.0)}
    (tmp_path / "net" / "results.json").write_text(json.dumps(rows))
    text = tables(tmp_path)
    assert "| network | candidate | margin 0 and more | margin 0.3 and more |" in text
    assert "| net | ours high | 2 of 4 | 6 of 6 |" in text


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ((None, 3, None, None), ["batch", 3, 48, 192]),
        (("n", 3, "h", "w"), ["batch", 3, 48, 192]),
        (("n", 48, 192, 3), ["batch", 48, 192, 3]),
        ((1, 3, 48, 192), [1, 3, 48, 192]),
        ((None, 3, 48, None), ["batch", 3, 48, 192]),
        ((None, None, None, 3), ["batch", 48, 192, 3]),
    ],
)
def test_images_of_a_file_that_leaves_sizes_open_get_one(given: tuple[Any, ...], fixed: list[Any]) -> None:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, given) for name in ("x", "y")]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))
    fix_size(model, "x", (48, 192))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in dims] == fixed
    onnx.checker.check_model(model, full_check=True)


def test_what_another_run_has_found_meanwhile_stays(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    note_down(results, "ours high", row(30.0))
    note_down(results, "ort default", row(20.0))
    note_down(results, "ours high", row(31.0))
    found = json.loads(results.read_text())
    assert {name: each["snr_db"] for name, each in found.items()} == {"ours high": [31.0], "ort default": [20.0]}
