"""Why an archive is not opened: it would run code, or it is damaged. The words go into one line."""

from __future__ import annotations


class WouldRun(ValueError):
    """Something in the archive would run code, or do more than compute; the message names it."""


class Damaged(ValueError):
    """Something in the archive is not as `torch.export.save` writes it; the message names it."""


def quoted(text: object) -> str:
    """Foreign text in a message: escaped, and no longer than a line bears."""
    return repr(text if isinstance(text, str) and len(text) <= 60 else str(text)[:60] + "...")
