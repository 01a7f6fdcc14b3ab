"""Which targets a plugin library has CUDA code for: a plan opens everywhere, and fails where a kernel is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from normexport.engine.flavor import CURRENT
from normexport.plugins.elf import CudaCode, Elf, NotElf


def targets_without_code(code: Iterable[CudaCode], targets: Sequence[str]) -> tuple[str, ...]:
    """Targets that no piece of code runs on.

    Machine code of sm_80 runs on 8.0 and on later GPUs of generation 8; PTX of 90 can be compiled for 9.0 and later.
    """
    pieces = tuple(code)

    def runs_on(target: str) -> bool:
        number = int(target.removeprefix("sm"))
        return any(
            each.architecture <= number and (each.ptx or each.architecture // 10 == number // 10) for each in pieces
        )

    return tuple(target for target in targets if target != CURRENT and not runs_on(target))


def coverage_warnings(library: Path, targets: Sequence[str]) -> tuple[str, ...]:
    """One line where the library lacks code for a target, none where it has all."""
    try:
        missing = targets_without_code(Elf(library).cuda, targets)
    except (NotElf, OSError):
        return ()
    if not missing:
        return ()
    return (f"{library.name} has no CUDA code for {', '.join(missing)}: its norms can't run there",)
