"""What each norm is: formula, constants, float64 reference, ONNX operator and body. One file per kind.

To add a kind, write its file and name it in `KINDS`. Everything else is derived from the registry whenever it is asked
for: modules, operators with bodies and schemas, `convert_norms`, what checkpoints and the command line know of kinds.
Only a compiled kernel is written by hand; until there is one (`NormKind.native`) the bodies serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

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
)
from normexport.norms.kind import CHUNKS_DEFAULT, EPSILON_DEFAULT, K_DEFAULT, PARAMETERS, NormKind, reference
from normexport.norms.l1 import L1
from normexport.norms.l2 import L2
from normexport.norms.linf import LINF
from normexport.norms.quantized import quantized_reference
from normexport.norms.quantized_function import quantized_function
from normexport.norms.range import RANGE
from normexport.norms.scope import Scope, require_groups
from normexport.norms.topk import TOPK
from normexport.norms.weight import weight_function

__all__ = [
    "CHUNKS_DEFAULT",
    "DOMAIN",
    "EPSILON_DEFAULT",
    "IR_VERSION",
    "KINDS",
    "K_DEFAULT",
    "OPSET",
    "OTHER_RUNNING",
    "PARAMETERS",
    "VERSION",
    "AffineParams",
    "NormKind",
    "Scope",
    "functions",
    "kind",
    "live_ops",
    "native_ops",
    "quantized_ops",
    "quantized_reference",
    "reference",
    "register_schemas",
    "require_groups",
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


def functions() -> Mapping[str, onnx.FunctionProto]:
    """Every operator of the domain with its body, by operator name. Treat the protos as read-only."""
    return _functions(tuple(KINDS.values()))


def live_ops() -> Mapping[str, NormKind]:
    """Operators whose statistics are computed at inference, with their kinds: these never fold."""
    return _live_ops(tuple(KINDS.values()))


def quantized_ops() -> Mapping[str, NormKind]:
    """The same norms from int8 to int8, with their kinds."""
    return _quantized_ops(tuple(KINDS.values()))


def native_ops() -> frozenset[str]:
    """Operators, of either sort, that compiled kernels compute."""
    served = {**live_ops(), **quantized_ops()}
    return frozenset(op for op, each in served.items() if each.native is not None)


# By the kinds there are: a kind that is registered later, or taken out again, is never missed.
@cache
def _functions(kinds: tuple[NormKind, ...]) -> Mapping[str, onnx.FunctionProto]:
    cases = [(each, scope) for each in kinds for scope in Scope]
    makers: dict[str, Callable[[], onnx.FunctionProto]] = {
        **{each.op(scope): partial(live_function, each, scope) for each, scope in cases},
        **{each.quantized_op(scope): partial(quantized_function, each, scope) for each, scope in cases},
        **{maker().name: maker for maker in (running_function, weight_function)},
    }
    return _ParsedWhenRead(makers)


class _ParsedWhenRead(Mapping[str, onnx.FunctionProto]):
    """Functions by name, each parsed from its text when it is first asked for: a model has a few of them."""

    def __init__(self, makers: Mapping[str, Callable[[], onnx.FunctionProto]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> onnx.FunctionProto:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@cache
def _live_ops(kinds: tuple[NormKind, ...]) -> Mapping[str, NormKind]:
    return {each.op(scope): each for each in kinds for scope in Scope}


@cache
def _quantized_ops(kinds: tuple[NormKind, ...]) -> Mapping[str, NormKind]:
    return {each.quantized_op(scope): each for each in kinds for scope in Scope}


def register_schemas() -> None:
    """Make the operators known to the ONNX checker in this process; idempotent."""
    schema.register(functions().values(), quantized_ops())
