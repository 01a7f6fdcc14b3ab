"""Names out of a stranger's file in the files of a bundle: they stay names, whatever they spell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import normexport
from normexport.bundle.assemble import assemble
from normexport.bundle.content import Batching, Content, ServedPort, kserve_name, name_after, require_name
from normexport.errors import UsageError
from tests.bundle.test_bundles import config_of

pytestmark = pytest.mark.slow

pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")

INJECTION = 'x" dims: 1 }\nparameters { key: "evil" value { string_value: "1'
NAMES = [
    INJECTION,
    "../../etc/passwd",
    "a/b",
    "a: b # c",
    "- &x *x !!python/object",
    "{{ .Values }}",
    "$(touch pwned)",
    "`id`",
    "\u202eevil",
    "né",
    "'",
    '"',
    "\\",
    "a" * 500,
]


def content(tmp_path: Path, port: str, label: str, name: str = "net") -> Content:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    record = {"versions": {"normexport": "1", "onnxruntime": "1.32.0"}, "onnx_sha256": "0" * 64, "options": {}}
    return Content(
        name=name,
        inputs=(ServedPort(port, "float32", (None, 3)),),
        outputs=(ServedPort(port + "_", "float32", (None, 2)),),
        batching=Batching(32, 8),
        sample={port: np.ones((2, 3), np.float32)},
        sample_size=2,
        labels={port + "_": (label, "b")},
        files={"model.onnx": model},
        manifest=None,
        capsule=None,
        record=record,
        verdict="PASSED",
    )


def check(files: dict[str, Any], port: str, label: str) -> None:
    """Names of files are ours, the configuration has what was put in, the labels are as many lines as labels."""
    for name in files:
        assert name.isascii()
        assert not {"..", ""} & set(name.split("/"))
    text = files["models/net/config.pbtxt"].decode()
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.input[0].name, config.output[0].name) == (port, port + "_")
    assert list(config.input[0].dims) == [3]
    assert set(config.parameters) == {
        "normexport.onnx.sha256",
        "normexport.version",
        "normexport.onnxruntime.version",
    }
    assert list(config.model_warmup[0].inputs) == [port]
    lines = files[f"models/net/{config.output[0].label_filename}"].decode().splitlines()
    assert len(lines) == 2
    assert lines[1] == "b"
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["triton", "kserve"])
def test_names_of_ports_and_labels_stay_names(tmp_path: Path, kind: str, name: str) -> None:
    check(assemble(kind, content(tmp_path, name, name)), name, name)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    port=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
    label=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
)
def test_any_name_and_any_label_stays_one(tmp_path: Path, port: str, label: str) -> None:
    check(assemble("triton", content(tmp_path, port, label)), port, label)


@settings(max_examples=300)
@given(st.text(max_size=120))
def test_what_is_named_after_a_file_is_a_name_on_every_system(stem: str) -> None:
    name = name_after(stem)
    assert require_name(name) == name
    label = kserve_name(name)
    assert 0 < len(label) <= 53
    assert label[0].isalpha()
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not label.endswith("-")


@pytest.mark.parametrize("name", [*NAMES[:-1], "", ".", "..", ".hidden", "a..b", "a/", "a\n", "-a"])
def test_no_other_name_is_taken(name: str) -> None:
    with pytest.raises(UsageError):
        require_name(name)


def test_a_file_with_hostile_names_becomes_a_bundle_of_plain_ones(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    names = 'x" } evil {', "../../y"
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[0], "w"], [names[1]])],
        "g",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / 'a"; rm -rf $HOME #.onnx')
    source = next(tmp_path.glob("*.onnx"))
    normexport.convert(source, tmp_path / "out", config=normexport.ConvertConfig(bundle="triton"))
    (folder,) = (tmp_path / "out" / "triton" / "models").iterdir()
    assert require_name(folder.name) == folder.name
    assert config_of(folder / "config.pbtxt").input[0].name == names[0]
    json.loads((tmp_path / "out" / "triton" / "model.bundle.json").read_text())
