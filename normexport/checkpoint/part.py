"""Which part of a file with weights is meant, where it holds more than one network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Which weights of a file to read; what is left out is noted.

    Attributes:
        entry: of a training checkpoint, the name of the entry with the weights: "ema_state_dict", or "a.b" for b within
            a. "ema" and "model" also stand for the only entry with averaged weights, and the only one with others.
            None: it has to be clear. Other entries are not read where that would run code.
        prefix: of the keys of a state_dict, only those that start with it are read, and it is taken off: "model.".
        ignored: keys that start with one of these are left out: "criterion.".
    """

    entry: str | None = None
    prefix: str | None = None
    ignored: tuple[str, ...] = ()


#: What is read where nothing is said.
WHOLE = Part()
