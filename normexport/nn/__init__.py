"""Torch modules that train with these norms, and the custom operators they are built on.

There is a class for every registered kind, scope and number of spatial axes, `L1BatchNorm2d`, `L1GroupNorm`: see
`derived.py`.
Importing this package registers `torch.ops.normexport.*`.
"""

from typing import TYPE_CHECKING

from normexport.nn import batch, group, instance, lazy, ops
from normexport.nn.base import Norm
from normexport.nn.convert import convert_norms
from normexport.nn.derived import class_named, class_names
from normexport.nn.native import use_native_kernels
from normexport.nn.running import RunningNorm
from normexport.nn.synchronize import synchronize_norms
from normexport.nn.weight_norm import BoundedWeightNorm, bounded_weight_norm, remove_bounded_weight_norm

if TYPE_CHECKING:
    from normexport.nn.kinds import *  # noqa: F403  (classes that are made of the registry, for type checkers)

_BASES: tuple[type[Norm], ...] = (*batch.BASES, *instance.BASES, *group.BASES, *lazy.BASES)

__all__ = [
    "BoundedWeightNorm",
    "Norm",
    "RunningNorm",
    "bounded_weight_norm",
    "convert_norms",
    "ops",
    "remove_bounded_weight_norm",
    "synchronize_norms",
    "use_native_kernels",
]
__all__ += class_names(_BASES)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[Norm]:
        """L1BatchNorm2d and its like."""
        return class_named(name, _BASES, __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *class_names(_BASES)})
