"""One thing whose time is measured: a file, what runs it, its threads and its batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a measuring process imports what it runs and no more: it begins in a third of the time
    from normexport.onnx_export import InputSpec
    from normexport.runtime import Array
    from normexport.runtime.tensorrt_runtime import Plan


@dataclass(frozen=True)
class Opening:
    """What a measuring process needs to open a file; it is sent there.

    Attributes:
        runtime: one of `timing.config.BENCH_RUNTIMES`.
        file: the ONNX file as it was checked, the checkpoint, or the plan.
        threads: of one inference; 0: the runtime's choice.
        inputs: names of what it reads, in the order of the file.
        specs: of a checkpoint, what it reads in the order of forward.
        library: of native norms, for ONNX Runtime.
        load: how a checkpoint is read: keyword arguments of `normexport.load`.
    """

    runtime: str
    file: Path | Plan
    threads: int
    inputs: tuple[str, ...]
    specs: tuple[InputSpec, ...] = ()
    library: Path | None = None
    load: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A case of the grid.

    Attributes:
        file: its name, for reports.
        batch: its batch size; 0 where the file fixes it.
        feeds: an array per input, in the types that the file reads.
    """

    file: str
    opening: Opening
    batch: int
    feeds: Mapping[str, Array] = field(repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Samples of one call."""
        return max(1, self.batch)

    @property
    def by_processor(self) -> bool:
        """Whether the time that processors spent on a call is how long it takes: one thread, and no other device."""
        return self.opening.threads == 1 and not self.opening.runtime.endswith(("cuda", "tensorrt"))
