"""Outputs, compared without what a machine measures anew each time."""

from __future__ import annotations

import re

#: What is measured: decimals and powers of ten, and whole numbers with a unit. Counts and exit codes stay.
_MEASURED = re.compile(
    r"[-+]?\d+(\.\d+)?(e[-+]?\d+)|[-+]?\d+\.\d+|\d+(?=\s?(?:%|(?:kB|MB|GB|us|ms|s|dB|bytes|samples/s)\b))"
)
_RULE = re.compile(r"[─━═-]{3,}")
_HASH = re.compile(r"\b[0-9a-f]{12,64}\b")
#: Which edits of int8 gain hangs on how the processor rounds: their list, to the empty line behind it.
_EDITS = re.compile(
    r"^ {2}(?:not )?(?:equalised|scales inserted|biases (?:absorbed|corrected)|weights rounded).*?(?=^\s*$|\Z)",
    re.MULTILINE | re.DOTALL,
)


def without_figures(text: str) -> list[str]:
    """Its words, wherever lines break, figures being 0.

    Left out are the boundary that comes nearest to its budget, whether the mean or the largest error does, and edits of
    int8: all are decided by figures.
    """
    text = _EDITS.sub("", re.sub(r"worst: .{1,120}?budget", "worst", text, flags=re.DOTALL))
    text = _MEASURED.sub("0", _RULE.sub(" ", _HASH.sub("0", text)))
    text = re.sub(r"\b0 (rms|max)\b", "0 off", text)
    return re.sub(r"(?<=\d)\s+(?=%|(?:kB|MB|GB|us|ms|s|dB)\b)", "", text).split()
