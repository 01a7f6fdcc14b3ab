"""What training scripts call the entries of their checkpoints: which hold weights, and which of these are averages."""

from __future__ import annotations

import re

#: Where training scripts keep the weights, the likeliest first; nested dicts are followed.
HOLDERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "net_state_dict",
    "state", "weights", "params", "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
#: Words in the names of entries and modules that hold averages of the weights of a network.
_AVERAGES = frozenset(("ema", "swa", "avg", "average", "averaged", "averaging", "polyak"))
_WORD = re.compile(r"[A-Za-z][a-z]*|[A-Z]+")


def names_average(name: str) -> bool:
    """Whether a name speaks of averaged weights: "model_ema", "ema_state_dict", "averaged"; not "schema"."""
    return not _AVERAGES.isdisjoint(word.lower() for word in _WORD.findall(name))
