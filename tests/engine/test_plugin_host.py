"""The plugin library's own code, run on the CPU under sanitizers: every operator, type and format, and refusals."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from emulated import DTYPES, PADDING, Norm, addresses, sample_elements
from engine import plugin_build
from expected import error, reference, sample

from normexport import norms

pytestmark = pytest.mark.skipif(plugin_build.missing() is not None, reason=str(plugin_build.missing()))

#: TensorRT's enumerators.
TYPES = {"float32": 0, "float16": 1, "int8": 2, "bfloat16": 7}
FORMATS = {
    4: {"LINEAR": 0, "CHW2": 1, "HWC8": 2, "CHW4": 3, "CHW32": 5, "HWC": 8, "HWC16": 11},
    5: {"LINEAR": 0, "HWC8": 6, "CHW32": 7, "HWC": 12},
}
FLOATS = tuple(name for name in TYPES if name != "int8")


@dataclass(frozen=True)
class Case:
    norm: Norm
    shape: tuple[int, ...]
    largest_batch: int = 4

    @property
    def op(self) -> str:
        name = norms.KINDS[self.norm.kind].op(self.norm.instance)
        return f"Q{name}" if self.norm.type == "int8" else name

    @property
    def cube(self) -> tuple[int, int, int]:
        return *self.shape[:2], int(np.prod(self.shape[2:]))

    def line(self, files: Path) -> str:
        code = FORMATS.get(len(self.shape), {"LINEAR": 0})[self.norm.layout]
        words = (files, self.op, TYPES[self.norm.type], code, len(self.shape), *self.shape, self.largest_batch)
        return " ".join(map(str, (*words, self.norm.epsilon, self.norm.correction, self.norm.k, self.norm.chunks)))


def cases() -> list[Case]:
    """Every operator, type and format of images; a few of each for vectors, sequences and volumes."""
    found = []
    for kind, type_, instance in itertools.product(norms.KINDS, TYPES, (False, True)):
        found += [Case(Norm(kind, type_, layout, instance), (3, 5, 6, 7)) for layout in FORMATS[4]]
        found += [Case(Norm(kind, type_, layout, instance), (2, 9, 2, 3, 4)) for layout in FORMATS[5]]
        found += [Case(Norm(kind, type_, "LINEAR", instance, correction=1.5), (4, 3, 17))]
        if not instance:
            found += [Case(Norm(kind, type_, "LINEAR", epsilon=0.1), (16, 6), largest_batch=16)]
    return found


def host(*words: object) -> subprocess.CompletedProcess[str]:
    program, library = plugin_build.watched()
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(list(map(str, (program, library, *words))), capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Every case and the y that the plugin wrote for it."""
    folder, made = tmp_path_factory.mktemp("plugin"), []
    for number, case in enumerate(cases()):
        files, norm = folder / str(number), case.norm
        x, scale, bias = sample(norm, case.cube, seed=number)
        where = addresses(norm.layout, case.cube, sample_elements(norm.layout, *case.cube[1:]))
        stored = np.full(case.cube[0] * sample_elements(norm.layout, *case.cube[1:]), PADDING[norm.type])
        stored = stored.astype(DTYPES[norm.type])
        stored[where] = x
        for suffix, array in (("x", stored), ("scale", scale), ("bias", bias)):
            files.with_name(f"{number}.{suffix}").write_bytes(array.astype(array.dtype).tobytes())
        made.append((case, files, where, x, np.float32(scale), np.float32(bias)))
    (folder / "cases").write_text("".join(case.line(files) + "\n" for case, files, *_ in made))
    done = host(folder / "cases")
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}\n{done.stderr}"
    return [(*each, np.frombuffer(Path(f"{each[1]}.y").read_bytes(), DTYPES[each[0].norm.type])) for each in made]


def test_every_operator_type_and_format_computes_the_norm(computed):
    assert {case.op for case, *_ in computed} == set(norms.live_ops()) | {f"Q{op}" for op in norms.live_ops()}
    for case, _, where, x, scale, bias, y in computed:
        right = reference(case.norm, x, scale, bias)
        if case.norm.type == "int8":
            np.testing.assert_array_equal(y[where], right, err_msg=str(case))
        else:
            assert error(case.norm, y[where], right, scale, bias).max() <= 1, case


def test_lanes_beyond_the_channels_are_written_zero(computed):
    checked = 0
    for case, _, where, *_, y in computed:
        padding = np.ones(len(y), bool)
        padding[where] = False
        assert not y[padding].astype(np.float32).any(), case
        checked += int(padding.sum())
    assert checked > 10_000


def test_the_formats_offered_are_those_with_the_channels_in_the_vector():
    rows = [line.split() for line in host("formats").stdout.splitlines()]
    assert len(rows) == 4 * 2 * len(norms.live_ops())
    for op, rank, *offered in rows:
        types = ("int8",) if op.startswith("Q") else FLOATS
        formats = FORMATS.get(int(rank), {"LINEAR": 0}).values()
        assert set(offered) == {f"{TYPES[name]}:{code}" for name in types for code in formats}


@pytest.fixture(scope="module")
def refusals():
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
def test_what_can_not_be_computed_is_refused_with_operator_and_layer(refusals, refusal, words):
    assert words in refusals[refusal]
    assert refusals[refusal].startswith("normexport: ")


def test_the_library_needs_no_tensorrt_and_no_cuda_library():
    program = ["readelf", "--dynamic", "--wide", plugin_build.library()]
    needed = [line for line in subprocess.check_output(program, text=True).splitlines() if "NEEDED" in line]
    assert needed
    assert not any("nvinfer" in line or "tensorrt_rtx" in line or "cuda" in line for line in needed)
