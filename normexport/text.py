"""Words of messages: text of others made fit to be shown, and lists of names and channels that stay short."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def first_line(error: BaseException, longest: int = 200) -> str:
    """The first line of an error's text that is not empty; the name of its class where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:longest] if lines else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """What went wrong before all that was raised because of it: libraries wrap an error once per level of nesting."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def printable(text: str, longest: int = 400) -> str:
    """`text` out of a file in one line: what does not print is escaped, and what is long is cut."""
    line = _escaped(text)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def one_line(text: object) -> str:
    """All of a text in one line without control characters: a name out of a file must not steer the terminal."""
    return _escaped(" ".join(str(text).split()))


def shortened(names: Collection[str], most: int = 3) -> str:
    """ "a, b, c and 5 more"."""
    first = ", ".join(list(names)[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def port_words(kind: str, name: str) -> str:
    """ "output logits", "input image"; of one whose name says so already that alone: "output", "input_1"."""
    return name if name.lower().startswith(kind) else f"{kind} {name}"


def channels(indices: Sequence[int], total: int | None = None) -> str:
    """ "channel 3", "channels 0, 4, 9", "channels 0, 1, 2, ... (17 of 64)", "all 64 channels"."""
    if total is not None and len(indices) == total and total > 1:
        return f"all {total} channels"
    if len(indices) == 1:
        return f"channel {indices[0]}"
    shown = ", ".join(str(index) for index in indices[:8])
    rest = f", ... ({len(indices)} in all)" if len(indices) > 8 else ""
    return f"channels {shown}{rest}"


def bracketed(indices: Sequence[int], most: int = 8) -> str:
    """ "[0, 3, 5]", "[0, 1, 2, 3, 4, 5, 6, 7, ... 17 in all]"."""
    shown = ", ".join(map(str, indices[:most]))
    return f"[{shown}]" if len(indices) <= most else f"[{shown}, ... {len(indices)} in all]"


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
