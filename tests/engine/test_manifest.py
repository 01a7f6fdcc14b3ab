"""Manifests that nobody vouches for: read as they were written, or refused by the name of the field."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from normexport.engine.manifest import (
    FileId,
    Manifest,
    NetworkLayer,
    PlanTensor,
    manifest_path,
    manifest_text,
    read_manifest,
)
from normexport.engine.plan_inputs import plan_inputs
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.proof import standard_batches
from normexport.proof.plan_candidate import batch_sizes

MANIFEST = Manifest(
    plan=FileId("m.plan", 7, "0" * 64),
    onnx=FileId("m.onnx", 9, "1" * 64),
    plugin=FileId("libnormexport_tensorrt.so", 8, "2" * 64),
    embedded=True,
    host_code=True,
    normexport="0.1",
    flavor="tensorrt-rtx",
    flavor_version="1.7.1.9",
    targets=("sm89", "sm120"),
    inputs=(PlanTensor("x", "float32", (-1, 3), (1, 3), (4, 3), (16, 3)),),
    outputs=(PlanTensor("y", "float16", ()),),
    precision={"float16": 3},
    plugins=(("n", "L1BatchNorm", "bn1"),),
    bodies=("TopKBatchNorm",),
    layers=(NetworkLayer("conv", "CONVOLUTION", "float16", "node", "conv1"),),
    options={"workspace": None, "tf32": False, "optimization_level": 3},
    warnings=("odd",),
    seconds={"build": 0.5},
)


def written(tmp_path: Path, content: Any) -> Path:
    plan = tmp_path / "m.plan"
    plan.write_bytes(b"content")
    manifest_path(plan).write_text(content if isinstance(content, str) else json.dumps(content))
    return plan


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path, manifest_text(MANIFEST))) == MANIFEST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "its format is 2, and this version of normexport reads 1"),
        ({"more": 1}, "unknown field 'more'"),
        ({"host_code": 0}, "host_code is 0, and true or false is needed"),
        ({"flavor": "a\nb"}, "flavor is"),
        ({"plan": {"file": "../x", "bytes": 1, "sha256": "0" * 64}}, r"plan\.file is '\.\./x', and a file name"),
        ({"onnx": {"file": "x", "bytes": -1, "sha256": "0" * 64}}, r"onnx\.bytes is -1"),
        ({"plugin": {"file": "x", "bytes": 1, "sha256": "0" * 64, "path": "/"}}, "plugin has an unknown field 'path'"),
        ({"targets": "sm89"}, "targets is 'sm89', and a list"),
        ({"precision": {"float32": "many"}}, r"precision\['float32'\] is 'many'"),
        ({"seconds": {"build": float("inf")}}, "holds Infinity"),
        ({"options": {"a": []}}, r"options\['a'\] is a list"),
        ({"plugins": [["a", "b"]]}, r"plugins\[0\] has 2 names"),
        ({"layers": [{"name": "a"}]}, r"layers\[0\]\.type is missing"),
        ({"layers": [[]]}, r"layers\[0\] is a list, and an object"),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    plan = written(tmp_path, MANIFEST.as_dict() | change)
    with pytest.raises(UsageError, match=words) as raised:
        read_manifest(plan)
    assert str(raised.value).startswith(f"{plan}.json: is not a manifest (")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "y"}, "have one name"),
        ({"shape": [-2, 3]}, r"inputs\[0\]\.shape\[0\] is -2"),
        ({"shape": [3]}, "profile that does not fit"),
        ({"largest": None}, "profile that does not fit"),
        ({"smallest": [5, 3]}, "profile that does not fit"),
        ({"dtype": 3}, r"inputs\[0\]\.dtype is 3"),
        ({"more": [[[1, 3], [1, 3]]]}, "profile that does not fit"),
        ({"more": [[[1, 3], [9, 3], [8, 3]]]}, "profile that does not fit"),
        ({"more": [[[1], [1], [1]]]}, "profile that does not fit"),
        ({"more": [[]]}, "profile that does not fit"),
        ({"more": [None]}, r"inputs\[0\]\.more\[0\] is null"),
        (
            {"smallest": None, "expected": None, "largest": None, "more": [[[1, 3], [1, 3], [1, 3]]]},
            "profile that does not fit",
        ),
    ],
)
def test_an_input_that_is_none_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    content = MANIFEST.as_dict()
    content["inputs"] = [content["inputs"][0] | change]
    with pytest.raises(UsageError, match=words):
        read_manifest(written(tmp_path, content))


def mutated(value: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The document with one value, anywhere in it, replaced, removed or doubled."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = [(value, key) for key in value]
    for holder, key in places:
        inner = holder[key]
        places += [
            (inner, at)
            for at in (inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ())
        ]
    holder, key = rng.choice(places)
    kinds: list[Any] = [None, True, -1, 10**30, 1.5, "", "\ud800", "x" * 5000, [], {}, [[[]]], {"a": None}, [1, "2"]]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(kinds)
    return value


@pytest.mark.slow
def test_mutated_manifests_are_read_or_refused(tmp_path: Path) -> None:
    rng, outcomes, whole = random.Random(0), set(), json.loads(manifest_text(MANIFEST))
    for _ in range(400):
        try:
            read_manifest(written(tmp_path, mutated(whole, rng)))
            outcomes.add("read")
        except UsageError as error:
            outcomes.add(f"refused in {len(str(error).splitlines())} line")
    assert outcomes == {"read", "refused in 1 line"}


def test_what_a_plan_reads_is_told_or_refused() -> None:
    odd = replace(MANIFEST, inputs=(PlanTensor("x", "__class__", (-1, 3)),))
    with pytest.raises(UsageError, match="input x: is of the unknown type __class__"):
        plan_inputs(odd)
    without_axes = replace(MANIFEST, inputs=(PlanTensor("x", "float32", ()), *MANIFEST.inputs))
    assert batch_sizes(without_axes, plan_inputs(without_axes)) == ((1, 2, 7, 16), ())
    assert batch_sizes(replace(MANIFEST, inputs=()), ()) == ((1,), ())


def test_each_profile_of_a_plan_is_judged_or_named() -> None:
    images = PlanTensor("x", "float32", (-1, 3), (1, 3), (1, 3), (1, 3), (((8, 3), (12, 3), (16, 3)),))
    several = replace(MANIFEST, inputs=(images,))
    assert batch_sizes(several, plan_inputs(several)) == ((1, 12, 16), ())
    sizes = PlanTensor(
        "x", "float32", (-1, 3, -1), (1, 3, 8), (1, 3, 8), (2, 3, 8), (((1, 3, 9), (1, 3, 9), (4, 3, 9)),)
    )
    open_width = replace(MANIFEST, inputs=(sizes,))
    found, notes = batch_sizes(open_width, plan_inputs(open_width, [InputSpec("x", (3, 8))]))
    assert found == (1, 2)
    assert notes == ("profile 2 of 2 was not judged: it has other sizes than the inputs given",)


def test_a_plan_of_before_has_one_profile(tmp_path: Path) -> None:
    content = json.loads(manifest_text(MANIFEST))
    for tensor in (*content["inputs"], *content["outputs"]):
        del tensor["more"]
    assert read_manifest(written(tmp_path, content)) == MANIFEST


def test_several_profiles_are_read_as_they_were_written(tmp_path: Path) -> None:
    (first,) = MANIFEST.inputs
    several = replace(MANIFEST, inputs=(replace(first, more=(((1, 3), (1, 3), (1, 3)), ((32, 3), (32, 3), (64, 3)))),))
    assert read_manifest(written(tmp_path, manifest_text(several))) == several
    assert [low[0] for low, _, _ in several.inputs[0].profiles] == [1, 1, 32]


def test_a_declared_size_is_no_reason_to_fill_the_memory() -> None:
    (spec,) = plan_inputs(replace(MANIFEST, inputs=(PlanTensor("x", "float32", (-1, 10**12)),)))
    with pytest.raises(UsageError, match="are the most for a random batch"):
        standard_batches([spec])
