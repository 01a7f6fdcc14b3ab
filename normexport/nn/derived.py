"""The public classes, derived: every base of a scope and a rank, with the statistic of every registered kind.

`BatchNorm2d` and the kind L1 give `L1BatchNorm2d`, whose home is the module of its base, so that pickles find it. What
type checkers see is written out in `kinds.pyi`; a test compares the two.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

from normexport.nn.base import Norm
from normexport.norms import KINDS, NormKind

_N = TypeVar("_N", bound=Norm)


def class_of(kind: NormKind, base: type[_N]) -> type[_N]:
    """The class of a kind: `base` with that statistic. The same one every time, or pickles would not find it."""
    key: Any = base  # mypy takes no class for hashable
    made: type[_N] = _class_of(kind, key)
    return made


@cache
def _class_of(kind: NormKind, base: Any) -> Any:
    words = (base.__doc__ or "").strip()
    namespace = {
        "__module__": base.__module__,
        "__doc__": f"{kind.title}: {words[:1].lower()}{words[1:]}",
    }
    return types.new_class(name_of(kind, base), (base,), {"kind": kind.name}, lambda made: made.update(namespace))


def name_of(kind: NormKind, base: type[Norm]) -> str:
    """L1BatchNorm2d for L1 and BatchNorm2d."""
    return f"{kind.title}{base.__name__}"


def class_names(bases: Iterable[type[Norm]]) -> list[str]:
    """The names of the classes that there are, kind by kind."""
    return [name_of(kind, base) for base in bases for kind in KINDS.values()]


def class_named(name: str, bases: Iterable[type[_N]], module: str) -> type[_N]:
    """The class of that name, for the `__getattr__` of `module`.

    Raises:
        AttributeError: there is none.
    """
    for base in bases:
        for kind in KINDS.values():
            if name_of(kind, base) == name:
                return class_of(kind, base)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
