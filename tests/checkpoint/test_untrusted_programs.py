"""Archives of exported programs that mean harm by their members, tables and graphs: one line, and nothing has run."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint.program_archives import (
    changed_program,
    config,
    damaged,
    ints,
    members_of,
    opens_in_torch,
    pickled,
    would_run,
    written,
)
from tests.checkpoint.support import IMAGES, Payload, refused


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/wrapper.cpp",
        "data/sample_inputs/x.pt",
        "data/sample_inputs/x.PT",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/executorch/x",
        "models/other.json",
        "models/__init__.py",
        "xl_model_weights/x",
    ],
)
def test_members_that_a_plain_program_does_not_need_are_refused_by_name(
    program: Path, tmp_path: Path, marker: Path, name: str
) -> None:
    file = written(tmp_path / "m.pt2", {**members_of(program), name: pickled(Payload(marker))})
    assert f"the member '{name}'" in would_run(file, marker)


def test_an_archive_without_its_version_is_not_read_as_one_of_an_older_pytorch(
    program: Path, tmp_path: Path, marker: Path
) -> None:
    """PyTorch falls back to the format of 2.7, whose weights are pickles."""
    old = {
        "version": b"8.8",
        "serialized_exported_program.json": members_of(program)["models/model.json"],
        "serialized_state_dict.pt": pickled(Payload(marker)),
        "serialized_constants.pt": pickled({}),
        "serialized_example_inputs.pt": pickled(((), {})),
    }
    members = members_of(program)
    del members["archive_version"]
    file = written(tmp_path / "m.pt2", members)
    with zipfile.ZipFile(file, "a") as archive:
        for name, content in old.items():
            archive.writestr(name, content)
    damaged(file)
    assert not marker.exists()
    opens_in_torch(file)
    assert marker.exists(), "the payload must be one that works"


@pytest.mark.parametrize("name", ["archive_format", "archive_version", "byteorder", "models/model.json"])
def test_an_archive_that_lacks_a_record_is_damaged(program: Path, tmp_path: Path, name: str) -> None:
    members = members_of(program)
    del members[name]
    refused(written(tmp_path / "m.pt2", members))


@pytest.mark.parametrize(
    "target",
    ["relu.__class__", "relu.overloads", "relu.op", "relu.schemas", "relu.qualified_op_name", "relu._qualified_op_name",
     "relu.Tensor", "relu.__init__"],
)  # fmt: skip
def test_an_attribute_of_an_operator_is_none_of_its_overloads(program: Path, tmp_path: Path, target: str) -> None:
    def change(found: Any) -> None:
        node = next(node for node in found["graph_module"]["graph"]["nodes"] if ".relu." in node["target"])
        node["target"] = f"torch.ops.aten.{target}"

    message = damaged(changed_program(program, tmp_path / "m.pt2", change))
    assert f"it calls 'torch.ops.aten.{target}', which this PyTorch does not have" in message


def enumeration(marker: Path, *, escaped: bool) -> str:
    """A structure of inputs whose key is an enumeration, which PyTorch imports and subscripts."""
    key = "\\u005f_enum__" if escaped else "__enum__"
    keys = f'[{{"{key}": true, "fqn": "planted:Trap", "name": "{marker}"}}]'
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    arguments = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
    named = {"type": "builtins.dict", "context": keys, "children_spec": [leaf]}
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [arguments, named]}])


@pytest.mark.parametrize("escaped", [True, False])
def test_a_structure_that_imports_a_class_is_refused(
    program: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch, escaped: bool
) -> None:
    (tmp_path / "planted.py").write_text(
        "import os\nclass Meta(type):\n    def __getitem__(cls, name): os.mkdir(name); return name\n"
        "class Trap(metaclass=Meta): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = enumeration(marker, escaped=escaped)

    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    file = changed_program(program, tmp_path / "m.pt2", change)
    assert "the keys " in would_run(file, marker)
    opens_in_torch(file)
    assert marker.exists(), "the payload must be one that works"


@pytest.mark.parametrize("kind", ["collections.defaultdict", "collections.namedtuple", "my.Own", "torch.nn.Module"])
def test_a_structure_of_types_that_are_imported_is_refused(
    program: Path, tmp_path: Path, marker: Path, kind: str
) -> None:
    def change(found: dict[str, Any]) -> None:
        signature = found["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, {"type": kind, "context": '"os:system"', "children_spec": []}])

    assert f"the type '{kind}', imported" in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


def test_a_graph_that_writes_into_a_file_is_refused(program: Path, tmp_path: Path, marker: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"\x01" * 64)

    def change(found: dict[str, Any]) -> None:
        graph = found["graph_module"]["graph"]
        first = graph["nodes"][0]
        value = {**graph["tensor_values"]["p_0_bias"], "sizes": ints(16), "requires_grad": False}
        graph["tensor_values"].update(opened=value, filled=value)

        def node(target: str, output: str, **arguments: dict[str, Any]) -> dict[str, Any]:
            inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments.items()]
            made = {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}], "name": output}
            return {**first, **made}

        graph["nodes"][:0] = [
            node(
                "torch.ops.aten.from_file.default", "opened", filename={"as_string": str(victim)},
                shared={"as_bool": True}, size={"as_int": 16},
            ),
            node(
                "torch.ops.aten.fill_.Scalar", "filled", self={"as_tensor": {"name": "opened"}},
                value={"as_float": 7.0},
            ),
        ]  # fmt: skip

    file = changed_program(program, tmp_path / "m.pt2", change)
    assert "the operator 'torch.ops.aten.from_file.default'" in would_run(file, marker)
    assert victim.read_bytes() == b"\x01" * 64
    torch.export.load(file).module()(IMAGES)
    assert victim.read_bytes() == struct.pack("<f", 7.0) * 16, "the attack must be one that works"


def two_directories(path: Path, marker: Path) -> Path:
    """One archive for readers of the small end record, another for those of its zip64 form."""
    honest, other = path.read_bytes(), io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        for name, content in members_of(path).items():
            evil = pickled(Payload(marker)) if name.endswith("sample_inputs/model.pt") else content
            archive.writestr(f"m/{name}", evil)
    evil = other.getvalue()
    end = evil[-22:]
    count, length, begin = struct.unpack("<8x2xH2L2x", end)
    # Offsets of the second archive are counted from its own start, so it stands first.
    honest_end = honest[-98:]
    h_count, h_length, h_begin = struct.unpack("<4sQ2H2L4Q", honest_end[:56])[7:10]
    first = honest[:h_begin]
    at = len(evil) - 22
    directory = honest[h_begin : h_begin + h_length]
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, h_count, h_count, h_length, at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at + h_length, 1)
    small = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, length, begin, 0)
    assert first
    path.write_bytes(evil[:at] + directory + zip64 + locator + small)
    return path


def test_an_archive_with_two_directories_is_refused(program: Path, tmp_path: Path, marker: Path) -> None:
    file = tmp_path / "m.pt2"
    file.write_bytes(program.read_bytes())
    assert "two directories that contradict each other" in damaged(two_directories(file, marker))
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": ints(10**6, 10**6, 10**6, 10**6), "strides": ints(0, 0, 0, 0)},
        {"sizes": ints(2**62, 2**62, 2**62, 2**62)},
        {"sizes": ints(6, 3, 3, 4)},
        {"sizes": ints(6, 3, 3)},
        {"sizes": ints(-6, 3, 3, 3)},
        {"strides": ints(-27, 9, 3, 1)},
        {"strides": ints(2**62, 9, 3, 1)},
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
        {"storage_offset": {"as_expr": {"expr_str": "s0"}}},
        {"dtype": 8},
        {"dtype": 9},
        {"dtype": 99},
        {"dtype": True},
        {"layout": 1},
        {"path_name": "weight_99"},
        {"tensor_meta": None},
        {"is_param": "yes"},
    ],
)
def test_weights_that_are_not_in_the_file_are_refused(program: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    message = refused(config(program, tmp_path / "m.pt2", **changes))
    assert "would run code" in message or "is a damaged exported program: " in message


@pytest.mark.parametrize("name", ["../../x", "weight_0/../../x", "/etc/passwd", "custom_obj_0", "opaque_obj_0", "x.pt"])
def test_weights_in_other_files_are_refused(program: Path, tmp_path: Path, marker: Path, name: str) -> None:
    would_run(config(program, tmp_path / "m.pt2", path_name=name), marker)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"config": {}, "config": {}}',
        b'{"config": NaN}',
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"config": 3}',
    ],
)
def test_tables_that_are_no_plain_json_are_refused(program: Path, tmp_path: Path, text: bytes) -> None:
    members = members_of(program)
    damaged(written(tmp_path / "m.pt2", {**members, "data/weights/model_weights_config.json": text}))
    refused(written(tmp_path / "m.pt2", {**members, "models/model.json": text}))


def test_a_program_within_a_program_without_end_is_refused(program: Path, tmp_path: Path) -> None:
    members = members_of(program)
    graph = json.loads(members["models/model.json"])["graph_module"]["graph"]
    inner = json.dumps(graph)
    for _ in range(12):
        inner = json.dumps({**graph, "nodes": [{**graph["nodes"][0], "inputs": [
            {"name": "", "kind": 1, "arg": {"as_graph": {"name": "g", "graph": json.loads(inner)}}}]}]})  # fmt: skip

    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"] = json.loads(inner)

    damaged(changed_program(program, tmp_path / "m.pt2", change))


def test_an_object_of_the_authors_class_is_refused(program: Path, tmp_path: Path, marker: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["signature"]["input_specs"].append(
            {"custom_obj": {"arg": {"name": "x", "class_fqn": "planted.Trap"}, "custom_obj_name": "x"}}
        )

    assert "an object of the author's own class" in would_run(
        changed_program(program, tmp_path / "m.pt2", change), marker
    )
