"""Every row of a table is fed, however the table is spelled; where that is too much, the report says how many were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from normexport import parity
from normexport.onnx_export import BatchRange, InputSpec
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.integer_bounds import Bounds
from normexport.proof.inputs.sweep import sweeps
from normexport.verdicts import Verdict

ROWS = 1500
TABLE = np.random.default_rng(0).standard_normal((ROWS, 4)).astype(np.float32)
WRONG = TABLE.copy()
WRONG[777, 1] += 0.1
NUMBERS = np.arange(ROWS)


def model(*nodes: str, signature: str = "int64[N,4] i) => (float[N,4,4] y", **stored: np.ndarray) -> onnx.ModelProto:
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g ({signature}) {{ {" ".join(nodes)} }}')
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    return made


REFERENCE = model("y = Gather(w, i)", w=TABLE)
ONE_HOT = (
    f"d = Constant <value = int64 {{{ROWS}}}> ()",
    "v = Constant <value = float[2] {0.0, 1.0}> ()",
    "o = OneHot(i, d, v)",
    "y = MatMul(o, w)",
)
SPELLINGS: dict[str, Callable[[np.ndarray], onnx.ModelProto]] = {
    "turned over": lambda table: model(
        "u = Gather <axis = 1> (w, i)", "y = Transpose <perm = [1, 2, 0]> (u)", w=np.ascontiguousarray(table.T)
    ),
    "a product": lambda table: model(*ONE_HOT, w=table),
    "in another type": lambda table: model("f = Cast <to = 1> (w)", "y = Gather(f, i)", w=table.astype(np.float64)),
    "scaled": lambda table: model("u = Gather(w, i)", "y = Add(u, u)", w=table / 2),
    "by several axes": lambda table: model(
        "a = Constant <value = int64[1] {2}> ()", "j = Unsqueeze(i, a)", "y = GatherND(w, j)", w=table
    ),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_a_wrong_row_is_found_however_the_table_is_spelled(spelled: Callable[[np.ndarray], onnx.ModelProto]) -> None:
    assert parity(REFERENCE, spelled(WRONG)).judgement.verdict is Verdict.FAILED
    assert parity(REFERENCE, spelled(TABLE)).judgement.verdict is Verdict.PASSED


def test_a_wrong_row_of_a_table_in_front_of_the_table() -> None:
    def behind(rows: np.ndarray) -> onnx.ModelProto:
        return model("j = Gather(r, i)", "y = Gather(w, j)", w=TABLE, r=rows)

    assert parity(REFERENCE, behind(np.where(NUMBERS == 777, 778, NUMBERS))).judgement.verdict is Verdict.FAILED
    assert parity(REFERENCE, behind(NUMBERS)).judgement.verdict is Verdict.PASSED


def test_one_value_of_a_byte() -> None:
    signature = "uint8[N,4] i) => (float[N,4] y"
    remap = np.where(np.arange(256) == 77, 78, np.arange(256)).astype(np.float32)
    cast = "y = Cast <to = 1> (i)"
    gather = "j = Cast <to = 7> (i)", "y = Gather(r, j)"
    plain = model(cast, signature=signature)
    assert parity(plain, model(*gather, signature=signature, r=remap)).judgement.verdict is Verdict.FAILED
    right = np.arange(256, dtype=np.float32)
    assert parity(plain, model(*gather, signature=signature, r=right)).judgement.verdict is Verdict.PASSED


def test_of_a_table_that_is_too_large_the_report_says_how_many_rows_were_read() -> None:
    large = np.zeros((400_000, 4), np.float32)
    large[:] = np.random.default_rng(0).standard_normal(4)
    large += np.arange(400_000)[:, None] / 1e5
    report = parity(model("y = Gather(w, i)", w=large), model("y = Gather(w, i)", w=large))
    assert report.judgement.verdict is Verdict.PASSED
    assert any("of the 400,000 numbers that it may be were fed" in note for note in report.notes)


def test_sizes_that_are_asked_for_are_kept() -> None:
    report = parity(REFERENCE, REFERENCE, batches=(1, 3))
    assert max(batch.size for batch in report.batches) == 3


# By itself.

GRAPH = ir.from_proto(REFERENCE)


def swept(spec: InputSpec, rows: int, fed: np.ndarray | None = None, most: int = 256) -> tuple[list[Batch], list[str]]:
    first = np.zeros(spec.sized(1), np.int64) if fed is None else fed
    bounds = {spec.name: Bounds(0, rows - 1, "")}
    return sweeps([Batch("", 1, {spec.name: first})], [spec], bounds, {}, GRAPH, 0, most)


@given(rows=st.integers(1, 3000), length=st.integers(1, 40), most=st.sampled_from([4, 50, 256]))
def test_every_number_is_fed_or_their_share_is_told(rows: int, length: int, most: int) -> None:
    batches, words = swept(InputSpec("i", (length,), "int64"), rows, most=most)
    fed = {0}.union(*(set(batch.feeds["i"].flat) for batch in batches))
    assert fed <= set(range(rows))
    assert (fed == set(range(rows))) is not bool(words)
    assert len(batches) <= 16
    assert all(batch.size <= most for batch in batches)


def test_what_is_fed_anyway_is_not_fed_again() -> None:
    assert swept(InputSpec("i", (50,), "int64"), 50, np.arange(50)[None]) == ([], [])


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(0, None, (0, 127)), (None, 0, (-128, 0)), (None, None, (-128, 127))]
)
def test_bytes_are_fed_within_the_end_that_they_have(low: int | None, high: int | None, ends: tuple[int, int]) -> None:
    spec = InputSpec("i", (4,), "int8")
    first = Batch("", 1, {"i": np.array([[0, 0, 0, 0]], np.int8)})
    batches, _ = sweeps([first], [spec], {"i": Bounds(low, high, "")}, {}, GRAPH, 0)
    assert {0, *(int(number) for batch in batches for number in batch.feeds["i"].flat)} == set(
        range(ends[0], ends[1] + 1)
    )


def test_a_table_that_is_said_to_have_more_rows_than_any_memory_holds() -> None:
    assert swept(InputSpec("i", (4,), "int64"), 10**15)[1] == [
        "i: 1 of the 1,000,000,000,000,000 numbers that it may be were fed"
    ]


def test_numbers_that_no_memory_holds_are_not_fed_where_they_cost_nothing() -> None:
    """A file without weights takes no time for each."""
    light = ir.from_proto(model("y = Cast <to = 1> (i)", signature="int64[N,4] i) => (float[N,4] y"))
    first = Batch("", 1, {"i": np.zeros((1, 4), np.int64)})
    batches, words = sweeps([first], [InputSpec("i", (4,), "int64")], {"i": Bounds(0, 10**15, "")}, {}, light, 0)
    assert (batches, len(words)) == ([], 1)


def test_a_fixed_batch_is_fed_as_it_is() -> None:
    fixed = InputSpec("i", (1, 40), "int64", batched=False)
    batches, _ = swept(fixed, 100)
    assert [batch.feeds["i"].shape for batch in batches] == [(1, 40)] * 3
    two = InputSpec("i", (4,), "int64", batch=BatchRange(2, 2))
    batches, _ = swept(two, 30)
    assert {batch.feeds["i"].shape for batch in batches} == {(2, 4)}


DECLARED = InputSpec("i", (4,), "int64", bounds=(10, 19))


@pytest.mark.parametrize("spec", [DECLARED])
def test_bounds_that_were_declared_are_kept(spec: InputSpec) -> None:
    batches, _ = swept(spec, 100, np.full((1, 4), 10))
    assert {int(number) for batch in batches for number in batch.feeds["i"].flat} == set(range(11, 20))


def test_a_size_is_not_swept() -> None:
    """It may ask for any memory: 0 and 1 are tried, and a few more."""
    first = Batch("", 1, {"i": np.zeros((1, 4), np.int64)})
    bounds = {"i": Bounds(0, 99, "", is_size=True)}
    assert sweeps([first], [InputSpec("i", (4,), "int64")], bounds, {}, GRAPH, 0) == ([], [])


def test_a_network_that_takes_long_is_not_swept() -> None:
    """A million weights, and three thousand rows one at a time."""
    heavy = ir.from_proto(model("y = Gather(w, i)", w=np.zeros((1 << 20, 1), np.float32)))
    first = Batch("", 1, {"i": np.zeros((1, 1), np.int64)})
    spec, bounds = InputSpec("i", (1,), "int64"), {"i": Bounds(0, 2999, "")}
    batches, words = sweeps([first], [spec], bounds, {}, heavy, 0)
    assert (batches, words) == ([], ["i: 1 of the 3,000 numbers that it may be were fed"])
    assert sweeps([first], [spec], bounds, {}, GRAPH, 0)[0]
