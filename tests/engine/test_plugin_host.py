"""The plugin library's own code, run on the CPU under sanitizers: every operator, type and format, and refusals."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from normexport import norms
from tests.engine import plugin_build, plugin_cases
from tests.engine.plugin_cases import FLOATS, FORMATS, TYPES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(plugin_build.missing() is not None, reason=str(plugin_build.missing())),
]


#: The plugin has no group norms.
IN_TENSORRT = {op for op in norms.native_ops() if "Group" not in op}


def host(*words: object) -> subprocess.CompletedProcess[str]:
    program, library = plugin_build.watched()
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(list(map(str, (program, library, *words))), capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> list[plugin_cases.Written]:
    """Every case, with the y that the plugin wrote for it."""
    listed, written = plugin_cases.write(tmp_path_factory.mktemp("plugin"))
    done = host(listed)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}\n{done.stderr}"
    return written


def test_every_operator_type_and_format_computes_the_norm(computed: list[plugin_cases.Written]) -> None:
    assert {each.case.op for each in computed} == IN_TENSORRT
    assert not plugin_cases.faults(computed)


def test_there_are_lanes_beyond_the_channels_to_be_written_zero(computed: list[plugin_cases.Written]) -> None:
    assert sum(each.y().size - each.x.size for each in computed) > 10_000


def test_a_wrong_answer_is_a_fault(computed: list[plugin_cases.Written]) -> None:
    float_, integer = (next(each for each in computed if each.case.norm.type == kind) for kind in ("float32", "int8"))
    for each, words in ((float_, "times the allowed error"), (integer, "bytes differ")):
        file = each.files.with_name(f"{each.files.name}.y")
        before = file.read_bytes()
        file.write_bytes(bytes([before[0] ^ 0x7F, before[1] ^ 0x7F, before[2] ^ 0x7F, before[3] ^ 0x3F]) + before[4:])
        assert words in each.fault()
        file.write_bytes(before)


def test_the_formats_offered_are_those_with_the_channels_in_the_vector() -> None:
    rows = [line.split() for line in host("formats").stdout.splitlines()]
    assert len(rows) == 4 * len(IN_TENSORRT)
    for op, rank, *offered in rows:
        types = ("int8",) if op.startswith("Q") else FLOATS
        formats = FORMATS.get(int(rank), {"LINEAR": 0}).values()
        assert set(offered) == {f"{TYPES[name]}:{code}" for name in types for code in formats}


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    done = host("refusals")
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("zero k", "attribute k has a wrong type or value"),
        ("huge k", "attribute k has a wrong type or value"),
        ("float chunks", "attribute chunks has a wrong type or value"),
        ("negative epsilon", "attribute epsilon"),
        ("nan epsilon", "attribute epsilon"),
        ("infinite correction", "attribute correction"),
        ("list of k", "attribute k is a list"),
        ("no fields", "no fields"),
        ("half scale", "scale and bias must be float32"),
        ("int8 of a float operator", "x must be float32, float16 or bfloat16"),
        ("float of an int8 operator", "x must be int8"),
        ("two inputs", "takes x, scale and bias"),
        ("k of fewer elements", "k=3"),
        ("short scale", "scale (3)"),
        ("matrix of biases", "bias (4, 0)"),
        ("another y", "y must be like x"),
        ("x of one dimension", "(N, C, ...) is needed"),
        ("more than the profile", "build it with this shape in its profile"),
        ("null pointers", "a pointer is null"),
    ],
)
def test_what_can_not_be_computed_is_refused_with_operator_and_layer(
    refusals: dict[str, str], refusal: str, words: str
) -> None:
    assert words in refusals[refusal]
    assert refusals[refusal].startswith("normexport: ")


def test_the_workspace_promised_for_a_profile_is_enough_for_its_every_shape() -> None:
    done = host("workspace")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 200_000


def test_the_library_needs_no_tensorrt_and_no_cuda_library() -> None:
    program: list[str | Path] = ["readelf", "--dynamic", "--wide", plugin_build.library()]
    needed = [line for line in subprocess.check_output(program, text=True).splitlines() if "NEEDED" in line]
    assert needed
    assert not any("nvinfer" in line or "tensorrt_rtx" in line or "cuda" in line for line in needed)
