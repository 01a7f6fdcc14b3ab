"""One table of floating-point types: right against those who define them, and the only one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from normexport import dtypes
from normexport.proof import tolerance

LIBRARY = Path(__file__).parents[1] / "normexport"

#: Files with a reason of their own to name bfloat16: what other formats call it, and rules for it alone.
NAMED = {
    "dtypes.py",
    "plugins/kernels.py",  # numbers of the C interface
    "proof/tolerance.py",  # how exact a yardstick is, measured
    "precision/half/types.py",  # operator sets in which it exists
    "runtime/onnx_runtime.py",  # a word of ONNX Runtime's messages
}


@pytest.mark.parametrize("name", dtypes.FLOATS)
def test_limits_are_those_of_the_type(name: str) -> None:
    row = dtypes.FLOATS[name]
    for info in (ml_dtypes.finfo(row.numpy), torch.finfo(row.torch)):
        assert row.largest == float(info.max)
        assert row.unit_roundoff == float(info.eps) / 2
        assert row.smallest_normal == float(getattr(info, "smallest_normal", info.tiny))
        assert row.bits == info.bits


@pytest.mark.parametrize("name", dtypes.FLOATS)
def test_names_and_numbers_are_those_of_onnx_numpy_and_torch(name: str) -> None:
    row = dtypes.FLOATS[name]
    assert row.name == name == row.numpy.name == str(row.torch).removeprefix("torch.")
    assert row.onnx == onnx.TensorProto.DataType.Value(row.onnx_name) == int(row.ir)
    assert row.numpy == onnx.helper.tensor_dtype_to_np_dtype(row.onnx)
    assert row.is_numpys == issubclass(row.numpy.type, np.floating)


@pytest.mark.parametrize("name", dtypes.FLOATS)
def test_a_type_is_found_by_what_others_call_it(name: str) -> None:
    row = dtypes.FLOATS[name]
    assert dtypes.of_onnx(row.ir) is dtypes.of_onnx(row.onnx) is dtypes.of_torch(row.torch) is row
    assert not row.tensorrt or dtypes.of_tensorrt(row.tensorrt) == name


def test_what_is_no_floating_type_is_none() -> None:
    assert dtypes.of_onnx(ir.DataType.INT8) is dtypes.of_onnx(None) is dtypes.of_torch(torch.int8) is None
    assert dtypes.of_tensorrt("int8") == dtypes.array_name("int8") == "int8"


@pytest.mark.parametrize("name", dtypes.FLOATS)
def test_arrays_travel_in_a_type_that_holds_every_number(name: str) -> None:
    row = dtypes.FLOATS[name]
    values = torch.tensor([row.largest, row.smallest_normal, 1 + 2 * row.unit_roundoff], dtype=row.torch)
    array = dtypes.as_numpys(values).numpy()
    assert array.dtype == np.dtype(row.array_name)
    assert array.astype(np.float64).tolist() == values.double().tolist()


def test_every_type_has_a_limit_for_the_yardstick() -> None:
    assert set(tolerance.UNSTABLE) == set(dtypes.FLOATS)


def test_no_other_file_lists_the_types() -> None:
    for file in LIBRARY.rglob("*.py"):
        strings = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        assert "bfloat16" not in strings or str(file.relative_to(LIBRARY)) in NAMED, file


def test_the_table_loads_nothing() -> None:
    home = LIBRARY.parent
    code = (
        "import sys; before = set(sys.modules); import normexport.dtypes; new = set(sys.modules) - before;"
        "assert not {'numpy', 'torch', 'onnx', 'onnx_ir'} & {name.split('.')[0] for name in new}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=home, env={"PYTHONPATH": str(home)})
