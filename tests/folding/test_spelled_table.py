"""Every row of the table of spellings folds, or is listed with its reason; none changes what the network computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as State

from normexport.folding import FoldResult
from normexport.recognition import fold_recognised
from normexport.runtime import Float64Runtime
from tests.folding.claims import check_form, check_idempotent, check_outcomes, fold_proto, operators
from tests.folding.random_graphs import random_feeds
from tests.folding.spelled.rows import Row
from tests.folding.spelled.table import ROWS, page_lines

PAGE = Path(__file__).parents[2] / "docs" / "folding.md"
#: Of the largest output. In float64 a fold rearranges a few dozen roundings of 1e-16; in the others a constant is
#: rounded once more to its type.
RELATIVE = {"float64": 1e-12, "float32": 2e-6, "float16": 1e-2, "bfloat16": 1e-1}

table = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "_"))


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, FoldResult]:
    result = fold_recognised(ir.from_proto(model))
    return ir.to_proto(result.model), result


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random inputs; those of bfloat16 as the interpreter takes them."""
    feeds = random_feeds(model)
    return {name: x.astype(np.float64) if x.dtype.name == "bfloat16" else x for name, x in feeds.items()}


def check_close(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], relative: float) -> None:
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape
        assert np.array_equal(np.isfinite(got[name]), np.isfinite(value))
        finite = np.isfinite(value)
        assert finite.any()
        error, size = np.abs(got[name][finite] - value[finite]).max(), np.abs(value[finite]).max()
        assert size > 1e-3, "the outputs are too small to tell anything"
        assert error <= relative * size, f"{name}: {error / size:.2g}"


def test_there_are_enough_rows_and_each_has_a_name_of_its_own() -> None:
    assert len(ROWS) >= 450
    assert not [name for name, count in Counter(row.name for row in ROWS).items() if count > 1]


@table
def test_its_norms_fold_or_are_listed_with_the_reason(row: Row) -> None:
    model = row.net().model()
    after, result = folded(model)
    told = [(norm.fate, norm.reason) for norm in result.norms]
    assert operators(after) == Counter(row.left.split()), told
    if row.silent:
        assert not told
        return
    assert told
    staying = [reason for fate, reason in told if fate != "folded"]
    assert bool(staying) == bool(row.stays), told
    assert not staying or any(row.stays in reason for reason in staying), staying


@table
def test_the_folded_network_computes_what_the_network_computed(row: Row) -> None:
    model = row.net().model()
    after, _ = folded(model)
    feeds = feeds_of(model)
    check_close(Float64Runtime(after).run(feeds), Float64Runtime(model).run(feeds), RELATIVE[np.dtype(row.dtype).name])


@table
def test_the_folded_network_is_valid_and_folds_no_further(row: Row) -> None:
    result = fold_proto(row.net().model())
    if result.result.changed:
        check_form(result)
        check_idempotent(result)
    check_outcomes(result)


@table
def test_onnx_runtime_computes_the_same_in_float32(row: Row) -> None:
    if row.dtype != np.float64 and row.dtype != np.float32:
        pytest.skip(f"a row of {np.dtype(row.dtype).name}: its own type is the point of it")
    model = row.net(np.float32).model()
    after, _ = folded(model)
    feeds = feeds_of(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        names = [value.name for value in model.graph.output]
        before = onnxruntime.InferenceSession(model.SerializeToString(), options).run(names, feeds)
    except (State.InvalidGraph, State.NotImplemented, State.InvalidArgument, State.RuntimeException) as error:
        pytest.skip(f"ONNX Runtime does not take the network as it was written: {error}")
    session = onnxruntime.InferenceSession(after.SerializeToString(), options)
    expected = dict(zip(names, before, strict=True))
    check_close(dict(zip(names, session.run(names, feeds), strict=True)), expected, 2e-5)


def test_the_page_lists_every_spelling_that_stays_and_no_other() -> None:
    text = PAGE.read_text().split("## Spellings")[1]
    listed = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| spelling |")]
    assert listed == page_lines()
