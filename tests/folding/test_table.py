"""Graphs that must fold, must not fold, or must at least keep their meaning: refusals are neither few nor many."""

from __future__ import annotations

import pytest

from tests.folding import (
    table_axes,
    table_bodies,
    table_folds,
    table_permutations,
    table_products,
    table_refuses,
    table_safe,
    torch_eval,
)
from tests.folding.case import Case
from tests.folding.claims import by_reference, check_case
from tests.foreign import skip_before_onnx

TABLES = (table_folds, table_refuses, table_safe, table_axes, table_products, table_permutations, table_bodies)
CASES = [case for table in TABLES for case in table.CASES.all]


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.verdict}-{case.name}")
def test_case(case: Case) -> None:
    if case.name == "norm_before_grouped_strided_dilated_conv":
        skip_before_onnx("1.23", "is wrong about convolutions with strides and dilations")
    witness = (torch_eval.evaluate,) if torch_eval.knows(case.model()) else ()
    check_case(case, (by_reference, *witness))
