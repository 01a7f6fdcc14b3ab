"""Parquet files that nobody vouches for: what pyarrow wrote comes back, everything else is one line, nothing is run."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normexport.errors import MissingComponent, UsageError
from normexport.io.parquet_tables import Cell, ParquetTable
from normexport.onnx_export import InputSpec
from normexport.precision.labels import labels_in
from normexport.proof.inputs.by_number import samples_at
from tests.proof.inputs.stored import npy, pictures, png

arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'normexport[parquet]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'normexport[parquet]'")

pytestmark = pytest.mark.slow

SPEC = InputSpec("input", (3, 12, 12))


def written(path: Path, group: int = 3, **columns: Any) -> Path:
    parquet.write_table(arrow.table(columns), path / "t.parquet", row_group_size=group)
    return path / "t.parquet"


def values(path: Path, column: str, first: int = 0) -> list[Any]:
    table = ParquetTable(path)
    found = [row.value(column) for row in table.rows([column], first)]
    return [each.content() if isinstance(each, Cell) else each.tolist() for each in found]


def read_all(path: Path, spec: InputSpec = SPEC) -> None:
    samples = samples_at(path, (spec,))
    for number in range(samples.count):
        list(samples.read(number))


def refused(path: Path, words: str, spec: InputSpec = SPEC) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        read_all(path, spec)
    assert len(str(raised.value).splitlines()) == 1


NUMBERS = st.integers(-(2**31), 2**31 - 1)


@given(
    rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=30),
    group=st.integers(1, 9),
    data=st.data(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_from_any_number_on(
    rows: list[list[int]], group: int, data: st.DataObject, tmp_path: Path
) -> None:
    first = data.draw(st.integers(0, len(rows)))
    path = written(tmp_path, group, x=rows, s=[{"bytes": str(row).encode(), "path": None} for row in rows])
    assert values(path, "x", first) == rows[first:]
    assert values(path, "s", first) == [str(row).encode() for row in rows[first:]]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool"])
@pytest.mark.parametrize("packing", ["snappy", "zstd", "gzip", "none"])
def test_numbers_of_every_type_and_packing(kind: str, packing: str, tmp_path: Path) -> None:
    expected = (np.arange(24).reshape(4, 2, 3) % 2).astype(kind)
    flat = arrow.array(expected.reshape(-1))
    inner = arrow.FixedSizeListArray.from_arrays(flat, 3)
    column = arrow.ListArray.from_arrays(arrow.array([0, 2, 4, 6, 8], arrow.int32()), inner)
    parquet.write_table(arrow.table({"x": column}), tmp_path / "t.parquet", compression=packing)
    found = [row.value("x") for row in ParquetTable(tmp_path / "t.parquet").rows(["x"])]
    np.testing.assert_array_equal(np.stack([np.asarray(each) for each in found]), expected)
    assert isinstance(found[0], np.ndarray)
    assert found[0].dtype == expected.dtype


def test_missing_values_and_ragged_lists_are_refused_by_row(tmp_path: Path) -> None:
    flat = [0.5] * SPEC.shape[0] * 144
    refused(written(tmp_path, input=[flat, None]), "row 1, column input: holds nothing")
    refused(written(tmp_path, input=[flat, [*flat[:-1], None]]), "row 1, column input: lacks numbers")
    refused(written(tmp_path, input=[[[1.0, 2.0], [3.0]]]), "lists of several lengths")
    refused(written(tmp_path, input=[flat[:-1]]), "has shape")
    refused(written(tmp_path, input=[{"bytes": None, "path": "../../etc/passwd"}]), "no column input|holds nothing")
    refused(written(tmp_path, words=["a"]), "has no column input of numbers or bytes .it has none")
    refused(written(tmp_path, a=[1.0], b=[2.0]), "has no column input of numbers or bytes .it has a, b")
    refused(written(tmp_path, input=[png(pictures(1)[0]), b"no image"]), "row 1, column input: is not an image")
    pickled = npy(np.array([{"a": 1}], object))
    refused(written(tmp_path, input=[pickled]), "row 0, column input: is not a numpy file of plain arrays")


def test_a_path_in_a_cell_is_never_opened(tmp_path: Path) -> None:
    """Hugging Face's images may be a path alone: then there is nothing to read."""
    (tmp_path / "there.png").write_bytes(png(pictures(1)[0]))
    cells = [{"bytes": None, "path": str(tmp_path / "there.png")}]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    refused(written(tmp_path, input=arrow.array(cells, kind)), "row 0, column input: holds nothing")


def test_labels_that_are_none_or_missing_are_refused(tmp_path: Path) -> None:
    assert labels_in(written(tmp_path, input=[1.0])) is None
    with pytest.raises(UsageError, match="column label: lacks values"):
        labels_in(written(tmp_path, input=[1.0, 2.0], label=[1, None]))
    with pytest.raises(UsageError, match="is not finite, first in sample 1"):
        labels_in(written(tmp_path, input=[1.0, 2.0], label=[1.0, float("nan")]))


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_damaged_files_are_one_line(at: float, tmp_path: Path) -> None:
    path = written(tmp_path, input=[png(each) for each in pictures(6)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(at * len(whole))])
    refused(path, "is not a Parquet file that can be read")
    for start in range(int(at * len(whole)), len(whole) - 1, 97):
        path.write_bytes(whole[:start] + bytes([whole[start] ^ 0x55]) + whole[start + 1 :])
        with contextlib.suppress(UsageError):  # what is changed in the numbers may be read as others
            read_all(path)


def test_a_table_that_announces_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, input=[1.0, 2.0])
    monkeypatch.setattr("normexport.io.parquet_tables.MOST_ROWS", 1)
    refused(path, "announces 2 rows, more than are read", InputSpec("input", ()))


def test_a_pyarrow_that_unpickles_is_refused_and_a_missing_one_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, input=[1.0])
    monkeypatch.setattr(arrow, "__version__", "14.0.0")
    with pytest.raises(MissingComponent, match=r"which can be made to run code by a file; run: pip install"):
        ParquetTable(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingComponent, match=r"run: pip install 'normexport\[parquet\]'"):
        ParquetTable(path)
