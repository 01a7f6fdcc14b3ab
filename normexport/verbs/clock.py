"""The stages of a long verb: announced as they begin, their wall times kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from normexport.logs import logger

_LOG = logger(__name__)

OnStage: TypeAlias = Callable[[str], None]


class Clock:
    """Announces stages and keeps their wall times."""

    def __init__(self, announce: OnStage | None) -> None:
        self._announce = announce or (lambda stage: None)
        self.seconds: tuple[tuple[str, float], ...] = ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage, from its announcement to its end."""
        self._announce(name)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.seconds += ((name, round(seconds, 3)),)
        _LOG.debug("%s took %.3f s", name, seconds)
