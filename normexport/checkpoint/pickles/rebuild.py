"""Objects from inert records: tensors, numpy arrays, plain data and layers of torch.nn and normexport.nn.

Only what the tables of this package name is rebuilt, each by code of ours that checks its arguments. An object that
stands in several places of the file stands in several places of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from normexport.checkpoint.pickles.rebuild_modules import MODULE_BUILDERS, norm_builders
from normexport.checkpoint.pickles.rebuild_numpy import NUMPY_BUILDERS
from normexport.checkpoint.pickles.rebuild_plain import BARE_NAMES, PLAIN_BUILDERS
from normexport.checkpoint.pickles.rebuild_tensors import DTYPES, QUANTISING, TENSOR_BUILDERS, layout_named
from normexport.checkpoint.pickles.rebuilder import Builder, Rebuilder, Room
from normexport.checkpoint.pickles.storages import STORAGE_TYPES, UNTYPED, Storages

#: What a pickle may call, and what it means; the norms of each kind come on top.
BUILDERS: dict[str, Builder] = {
    **PLAIN_BUILDERS,
    **NUMPY_BUILDERS,
    **TENSOR_BUILDERS,
    **MODULE_BUILDERS,
    "torch.serialization._get_layout": layout_named,
}
#: What a pickle may name without calling it.
VALUES: dict[str, Any] = {**DTYPES, **QUANTISING, **BARE_NAMES}
_KNOWN = frozenset({*BUILDERS, *VALUES, *STORAGE_TYPES, UNTYPED})


def unknown_names(names: frozenset[str]) -> list[str]:
    """Names that are not on the list of what is rebuilt, sorted."""
    return sorted(names - _KNOWN - norm_builders().keys())


def rebuilt(root: Any, storages: Storages, most: int, own: Mapping[str, Builder] = MappingProxyType({})) -> Any:
    """The object that the record `root` of a pickle stands for; its tensors have at most `most` bytes in all.

    Args:
        own: what this kind of file may call beside, by name.

    Raises:
        BadPickle: something in it is malformed, holds itself, is nested too deeply or is too large.
    """
    return Rebuilder(storages, Room(most), {**BUILDERS, **norm_builders(), **own}, VALUES).value(root)
