"""The real kernels with one synchronisation taken out: the emulation sees what is missing.

`PYTHONPATH=. python` on this file takes out every barrier, wait and atomic in turn, and says what saw
it; one that nothing sees is either not needed or not tested.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import TURING, Device, Norm, open_library, run
from tests.plugins.cuda_emulated.test_emulated_sanitizers import case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]

#: What is taken out: a pattern on one line of code, and what stands there instead.
SYNCHRONISATIONS = {
    r"__syncthreads\(\);": ";",
    r"nx_cluster_sync\(\);": ";",
    r"cp_async_wait<(\d)>\(\);": "cp_async_wait<9>();",
    r"atomicAdd\((&?)([^,;]*), ([^;]*)\)(?=;)": r"nx_plain_add(\1\2, \3)",
}
#: An addition that is none: two threads may read the same value.
PLAIN_ADD = "template <class P, class V> P nx_plain_add(P* p, V v) { P old = *p; *p = P(old + v); return old; }\n"

CLUSTERS = Device(90, 1, 48 * 1024)
NO_TILES = Device(75, 40, 24 * 1024)
SEEDS = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Mutation:
    """Line `line` of `file`, without its synchronisation. source: the .cu file that shows it."""

    file: str
    line: int
    text: str
    changed: str

    @property
    def source(self) -> str:
        return "int8/int8.cu" if self.file.startswith("int8") else "float/float32.cu"

    @property
    def dtype(self) -> str:
        return Path(self.source).stem

    def apply(self, folder: Path) -> Path:
        """A copy of the kernels with this change."""
        copy = folder / "cuda"
        shutil.copytree(emulation_build.KERNELS, copy)
        lines = (copy / self.file).read_text().splitlines(keepends=True)
        assert lines[self.line] == self.text
        lines[self.line] = self.changed
        start = next(i for i, line in enumerate(lines) if line.startswith("#include")) + 1
        helper = PLAIN_ADD if "nx_plain_add" in self.changed else ""
        (copy / self.file).write_text("".join(lines[:start]) + helper + "".join(lines[start:]))
        return copy


def mutations() -> Iterator[Mutation]:
    for path in sorted(emulation_build.KERNELS.rglob("*.cuh")):
        if path.name == "device.cuh":
            continue
        for number, line in enumerate(path.read_text().splitlines(keepends=True)):
            for pattern, instead in SYNCHRONISATIONS.items():
                code = line.split("//")[0]
                if re.search(pattern, code):
                    yield Mutation(
                        str(path.relative_to(emulation_build.KERNELS)),
                        number,
                        line,
                        re.sub(pattern, instead, code).rstrip() + "\n",
                    )


def cases(dtype: str) -> Iterator[tuple[Norm, tuple[int, int, int], Device]]:
    for kind, layout in product(("l1", "linf", "topk", "range", "l2"), ("LINEAR", "HWC8")):
        yield Norm(kind, dtype, layout, k=10), (3, 5, 260), CLUSTERS
        yield Norm(kind, dtype, layout, k=10), (2, 8, 130), TURING
        yield Norm(kind, dtype, layout, k=300), (2, 2, 2000), TURING
        yield Norm("range", dtype, layout, chunks=64), (3, 5, 260), NO_TILES
    for k in (2, 5, 2000):  # fewer candidates than k, more, and more than there is room for
        yield Norm("topk", dtype, k=k), (2, 1, 20_000), CLUSTERS
    for kind in ("l1", "linf", "topk", "range"):
        yield Norm(kind, dtype), (2, 1, 14_000), CLUSTERS
        yield Norm(kind, dtype), (4, 3, 20_000), NO_TILES


def seen_in_values(mutation: Mutation, kernels: Path, folder: Path) -> str | None:
    """What the emulation says, or which case comes out wrong; None where nothing does."""
    library = open_library(emulation_build.build_altered(kernels, mutation.source, "plain", folder))
    for seed, (norm, shape, device) in product(SEEDS, cases(mutation.dtype)):
        x, scale, bias = expected.sample(norm, shape)
        result = run(norm, x, scale, bias, device=device, seed=seed, lib=library)
        if result.status:
            return result.message
        right = expected.reference(norm, x, scale, bias)
        if norm.type == "int8":
            wrong = bool(np.any(result.y != right))
        else:
            wrong = not np.all(expected.error(norm, result.y, right, scale, bias) <= 1)
        if wrong:
            return f"wrong numbers, seed {seed}: {norm.kind} {shape}"
    return None


def seen_by_thread_sanitizer(mutation: Mutation, kernels: Path, folder: Path) -> str | None:
    program = emulation_build.build_altered(kernels, mutation.source, "tsan", folder)
    lines = [
        case(kind, mutation.dtype, layout, (2, 2, 600), 75)
        for kind, layout in product(("l1", "topk"), ("LINEAR", "HWC8"))
    ]
    (folder / "cases").write_text("\n".join(lines))
    done = emulation_build.run_sanitized(program, folder / "cases")
    return "ThreadSanitizer" if "data race" in done.stderr else None


def by_place() -> dict[str, list[Mutation]]:
    """All but the atomics, which ThreadSanitizer alone sees: by file and synchronisation."""
    found: dict[str, list[Mutation]] = {}
    for each in mutations():
        if "nx_plain_add" not in each.changed:
            name = re.search(r"(__syncthreads|nx_cluster_sync|cp_async_wait)", each.text)
            assert name is not None
            found.setdefault(f"{each.file}-{name[0]}", []).append(each)
    return found


def named(mutation: Mutation) -> str:
    return f"{mutation.file}-{mutation.line + 1}"


@pytest.mark.parametrize("place", by_place() if emulation_build.missing() is None else [])
def test_a_kernel_without_one_synchronisation_is_seen(place: str, tmp_path: Path) -> None:
    """The first that is needed: some stand where another barrier would do as well, and nothing can miss those."""
    unseen = []
    for number, mutation in enumerate(by_place()[place]):
        folder = tmp_path / str(number)
        folder.mkdir()
        if seen_in_values(mutation, mutation.apply(folder), folder):
            return
        unseen.append(named(mutation))
    pytest.fail(f"nothing misses any of {', '.join(unseen)}")


def test_a_plain_add_in_place_of_an_atomic_is_a_race(tmp_path: Path) -> None:
    mutation = next(each for each in mutations() if "nx_plain_add" in each.changed and each.dtype == "int8")
    assert seen_by_thread_sanitizer(mutation, mutation.apply(tmp_path), tmp_path) == "ThreadSanitizer"


def main() -> int:
    unseen = 0
    for mutation in mutations():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            kernels = mutation.apply(folder)
            seen = seen_in_values(mutation, kernels, folder) or seen_by_thread_sanitizer(mutation, kernels, folder)
        unseen += seen is None
        print(f"{named(mutation)}: {mutation.text.strip()}\n    {seen or 'NOT SEEN'}", flush=True)
    return unseen


if __name__ == "__main__":
    sys.exit(emulation_build.missing() or main())
