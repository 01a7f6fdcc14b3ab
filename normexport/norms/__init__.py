"""What each norm is: formula, constants, float64 reference, ONNX operator and body. One file per kind.

To add a kind, write its file and name it in `KINDS`: modules, operators, schemas, command-line choices and
documentation tables are derived from the registry.
"""

from __future__ import annotations

from functools import cache

import onnx

from normexport.errors import UsageError
from normexport.norms import schema
from normexport.norms.affine import AffineParams
from normexport.norms.function import (
    DOMAIN,
    IR_VERSION,
    OPSET,
    VERSION,
    live_function,
    running_function,
    weight_function,
)
from normexport.norms.kind import CHUNKS_DEFAULT, K_DEFAULT, NormKind, reference
from normexport.norms.l1 import L1
from normexport.norms.l2 import L2
from normexport.norms.linf import LINF
from normexport.norms.quantized import quantized_reference
from normexport.norms.quantized_function import quantized_function
from normexport.norms.range import RANGE
from normexport.norms.topk import TOPK

__all__ = [
    "CHUNKS_DEFAULT",
    "DOMAIN",
    "IR_VERSION",
    "KINDS",
    "K_DEFAULT",
    "OPSET",
    "OTHER_RUNNING",
    "VERSION",
    "AffineParams",
    "NormKind",
    "functions",
    "kind",
    "live_ops",
    "quantized_ops",
    "quantized_reference",
    "reference",
    "register_schemas",
    "running_kind",
]

KINDS: dict[str, NormKind] = {each.name: each for each in (L1, LINF, TOPK, RANGE, L2)}


def kind(name: str) -> NormKind:
    """The kind called `name`.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(f"kind {name!r}", "is not a norm kind", f"choose one of {', '.join(KINDS)}") from None


#: What else the `kind` of a RunningNorm may say: torch's own BatchNorm, a mere mean, or a layout that does not tell.
#: Running statistics are an affine map per channel, whatever statistic was trained.
OTHER_RUNNING = ("batchnorm", "mean", "unknown")


def running_kind(name: str) -> str:
    """`name` itself, if a RunningNorm may be labelled so.

    Raises:
        UsageError: it is neither a norm kind nor one of `OTHER_RUNNING`.
    """
    return name if name in OTHER_RUNNING else kind(name).name


@cache
def functions() -> dict[str, onnx.FunctionProto]:
    """Every operator of the domain with its body, by operator name. Treat the protos as read-only."""
    cases = [(each, instance) for each in KINDS.values() for instance in (False, True)]
    live = [live_function(*case) for case in cases]
    quantized = [quantized_function(*case) for case in cases]
    return {function.name: function for function in [*live, *quantized, running_function(), weight_function()]}


@cache
def live_ops() -> dict[str, NormKind]:
    """Operators whose statistics are computed at inference, with their kinds: these never fold."""
    return {each.op(instance): each for each in KINDS.values() for instance in (False, True)}


@cache
def quantized_ops() -> dict[str, NormKind]:
    """The same norms from int8 to int8, with their kinds."""
    return {each.quantized_op(instance): each for each in KINDS.values() for instance in (False, True)}


def register_schemas() -> None:
    """Make the operators known to the ONNX checker in this process; idempotent."""
    schema.register(functions().values(), quantized_ops())
