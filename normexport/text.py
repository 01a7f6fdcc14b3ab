"""Lists of names and channels in the words of messages: the first few, and how many there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def shortened(names: Collection[str], shown: int = 3) -> str:
    """ "a, b, c and 5 more"."""
    first = ", ".join(list(names)[:shown])
    return f"{first} and {len(names) - shown} more" if len(names) > shown else first


def printable(text: str, longest: int = 400) -> str:
    """`text` out of a file in one line: what does not print is escaped, and what is long is cut."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def channels(indices: Sequence[int], total: int | None = None) -> str:
    """ "channel 3", "channels 0, 4, 9", "channels 0, 1, 2, ... (17 of 64)", "all 64 channels"."""
    if total is not None and len(indices) == total and total > 1:
        return f"all {total} channels"
    if len(indices) == 1:
        return f"channel {indices[0]}"
    shown = ", ".join(str(index) for index in indices[:8])
    rest = f", ... ({len(indices)} in all)" if len(indices) > 8 else ""
    return f"channels {shown}{rest}"
