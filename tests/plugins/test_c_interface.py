"""What Python says of the kernels' C interface is what the header says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from normexport.plugins.kernels import ABI_VERSION, TYPES, NxNorm, kind_numbers

HEADER = (Path(__file__).parents[2] / "plugins" / "kernels" / "include" / "normexport" / "kernels.h").read_text()
WIDTHS = {"int32_t": "c_int", "int64_t": "c_long", "float": "c_float"}


def test_version_is_that_of_the_header() -> None:
    assert int(re.search(r"#define NX_ABI_VERSION (\d+)", HEADER).group(1)) == ABI_VERSION


@pytest.mark.parametrize(("name", "value"), [*kind_numbers().items(), *TYPES.items()])
def test_enumerators_have_the_values_of_the_header(name: str, value: int) -> None:
    assert re.search(rf"\bNX_{name.upper()} = {value}\b", HEADER)


def test_struct_has_the_fields_of_the_header_in_their_order() -> None:
    (text,) = re.findall(r"typedef struct NxNorm \{(.*?)\} NxNorm;", HEADER, re.DOTALL)
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    declared = [
        (name.strip(), WIDTHS[width])
        for width, names in re.findall(r"(int32_t|int64_t|float) ([\w, ]+);", code)
        for name in names.split(",")
    ]
    assert [(name, kind.__name__) for name, kind in NxNorm._fields_] == declared
