"""Silence for libraries whose words would stand beside the one line that we say."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator


class _Nowhere(io.StringIO):
    """Forgets what it is given. rich looks behind a stream that has `rich_proxied_file`: its spinner keeps turning."""

    def __init__(self, stream: object) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(stream, "rich_proxied_file", stream)

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """While active, nothing that Python code prints, warns of or logs is seen; errors still raise.

    PyTorch prints the graph at which it gives up to stderr before it raises.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(_Nowhere(sys.stdout)),
            contextlib.redirect_stderr(_Nowhere(sys.stderr)),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
