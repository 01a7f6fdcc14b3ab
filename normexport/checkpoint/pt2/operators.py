"""Which operators an untrusted program may call: those that compute values from values and touch nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from normexport.checkpoint.pt2.aten_names import ATEN_NAMES
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun, quoted

_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_OWN = frozenset(
    f"torch.ops.normexport.{name}.default"
    for name in ("running_norm", "live_norm", "bounded_weight_norm", "uniform_quantize", "fake_quantize")
)
#: Fake quantisation of torch.ao, which PyTorch registers with the module of that name.
_DECOMPOSED = re.compile(
    r"torch\.ops\.quantized_decomposed\.(?:de)?quantize_per_(?:tensor|channel)\.(?:default|tensor)"
)
#: Their functions are graphs of the same program, looked at by the same rules.
_HIGHER_ORDER = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in ("cond", "while_loop", "scan", "map_impl", "associative_scan", "wrap_with_set_grad_enabled",
                 "wrap_with_autocast")
)  # fmt: skip
#: Arithmetic on sizes.
_ARITHMETIC = """
    add sub mul truediv floordiv mod pow neg pos eq ne lt le gt ge and_ or_ getitem lshift rshift
"""
_SYMBOLIC = """
    torch.sym_int torch.sym_float torch.sym_not torch.sym_max torch.sym_min torch.sym_ite torch.sym_sum torch._sym_sqrt
    math.trunc math.floor math.ceil
"""
_ON_SIZES = frozenset(f"_operator.{name}" for name in _ARITHMETIC.split()) | frozenset(_SYMBOLIC.split())
#: What an identity that is random in training is switched off by: the argument, and its value.
_SWITCHES = {"train": False, "training": False, "dropout_p": 0, "dropout": 0, "p": 0}


def require_plain_operator(target: str) -> None:
    """Refuse an operator outside the allow-list.

    Raises:
        WouldRun: naming it.
    """
    if target in _OWN or target in _HIGHER_ORDER or target in _ON_SIZES:
        return
    if _DECOMPOSED.fullmatch(target):
        import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers them

        return
    match = _ATEN.fullmatch(target)
    if match is None or not _is_allowed(match[1]) or match[2].endswith("out"):
        raise WouldRun(f"the operator {quoted(target)}")


def require_switched_off(target: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an operator that draws random numbers unless its arguments switch it off, as in evaluation.

    Raises:
        WouldRun: naming it.
        Damaged: this PyTorch has no such operator.
    """
    match = _ATEN.fullmatch(target)
    if match is None:
        return
    packet = getattr(torch.ops.aten, match[1], None)
    # Not by what attributes it has: `overloads` and `__class__` are such, too.
    if packet is None or match[2] not in packet.overloads():
        raise Damaged(f"it calls {quoted(target)}, which this PyTorch does not have")
    operator = getattr(packet, match[2])
    if torch.Tag.nondeterministic_seeded not in operator.tags:
        return
    given = {each.name: each.default_value for each in operator._schema.arguments if each.has_default_value()}
    given.update(arguments)
    if not any(name in given and given[name] == off for name, off in _SWITCHES.items()):
        raise WouldRun(f"the operator {quoted(target)}, which draws random numbers (export in evaluation mode)")


def _is_allowed(name: str) -> bool:
    return name in ATEN_NAMES or (name.endswith("_") and not name.endswith("__") and name[:-1] in ATEN_NAMES)
