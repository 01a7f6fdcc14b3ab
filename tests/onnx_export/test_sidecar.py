"""Layer maps that nobody vouches for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import UsageError
from normexport.onnx_export import read_sidecar
from normexport.onnx_export.layers import Layer

ROW = {"path": "conv1", "call": 0, "type": "Conv2d", "tensor": "conv", "nodes": ["n"], "holds": []}


def written(tmp_path: Path, content: dict[str, Any] | str) -> Path:
    path = tmp_path / "model.layers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_layers_that_folding_left_no_tensor_are_left_out(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"path": "bn1", "tensor": None}]
    path = written(tmp_path, {"format": 1, "model": "../../etc/passwd", "layers": rows})
    assert read_sidecar(path) == (Layer("conv1", 0, "Conv2d", "conv"),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 2, "layers": []}, "its format is 2, and this version of normexport reads 1"),
        ({"format": 1}, "layers is missing"),
        ({"format": 1, "layers": {}}, "layers is an object, and a list"),
        ({"format": 1, "layers": [ROW, ROW | {"call": "0"}]}, r"layers\[1\]\.call is '0', and a whole number"),
        ({"format": 1, "layers": [ROW | {"path": []}]}, r"layers\[0\]\.path is a list, and text"),
        ({"format": 1, "layers": [{"path": "a"}]}, r"layers\[0\]\.call is missing"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "format": 2}', "'format' twice"),
        ("\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"), "is no JSON"),
    ],
)
def test_what_is_no_layer_map_is_one_line_that_names_the_field(
    content: dict[str, Any] | str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        read_sidecar(written(tmp_path, content))
    assert "is not a layer map (" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
