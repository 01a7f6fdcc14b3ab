"""Samples that end the process which reads one of them, once: a worker that is killed in the middle of its work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Samples:
    """Random images, each the same at every reading.

    Attributes:
        mark: a file that says that a process has been killed.
        fatal: the sample that kills the first process to read it; -1: none does.
        seconds: that each takes.
    """

    mark: Path
    fatal: int = -1
    seconds: float = 0.0
    count: int = 24
    shape: tuple[int, ...] = (3, 12, 12)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Any:
        time.sleep(self.seconds)
        if number == self.fatal and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(number).normal(size=self.shape).astype(np.float32)
