"""The tensors of a TorchScript archive by the paths of their modules; its code is never read.

Such an archive pickles a tree of objects, each of a class whose source lies beside it: attributes by name, of which
some are tensors and some are objects again. The tree is read by the pickle machine, as inert as any pickle.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from normexport.checkpoint.names import is_attribute_name
from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, text_of
from normexport.checkpoint.pickles.machine import read_pickle
from normexport.checkpoint.pickles.rebuild import rebuilt, unknown_names
from normexport.checkpoint.pickles.rebuild_tensors import NoNumbers
from normexport.checkpoint.pickles.rebuilder import Rebuilder
from normexport.checkpoint.pickles.unpickle import folder_of, in_one_line, zipped_storages
from normexport.checkpoint.pickles.unread import Unread
from normexport.errors import CheckpointError
from normexport.io.limits import memory_allowance
from normexport.io.zip_archive import ZipArchive
from normexport.text import printable, shortened

#: The package of the classes that an archive brings with it.
_CLASSES = "__torch__."
#: Classes of PyTorch's own C++: weights packed for quantised layers.
_NATIVE = "__torch__.torch.classes."
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
#: Attributes met on the way: one that stands in two places, in one that stands in two places, ... has 2^n paths.
_MOST_ATTRIBUTES = 1_000_000


class _Module:
    """An object of a class of the archive: its attributes."""

    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


def read_scripted(path: Path) -> dict[str, Tensor | NoNumbers]:
    """Path of module and name -> tensor: parameters, buffers whether persistent or not, and tensors kept as attributes.

    Raises:
        CheckpointError: it is damaged, too large, holds objects that are no modules, or no tensors.
    """
    with in_one_line(path), path.open("rb") as file, ZipArchive(file) as archive:
        folder = folder_of(archive)
        pickle = read_pickle(archive.read(f"{folder}/data.pkl"))
        own = {name: _object for name in pickle.names if name.startswith(_CLASSES)}
        if native := sorted(name for name in own if name.startswith(_NATIVE)):
            cause = f"holds packed weights ({printable(native[0], 80)})"
            raise CheckpointError(str(path), cause, "give the float network that was quantised")
        own |= {f"torch.jit._pickle.{name}": _listed for name in _LISTS}
        own |= {"torch.jit._pickle.restore_type_tag": _tagged}
        if unknown := unknown_names(pickle.names - own.keys()):
            named = shortened([printable(name, 80) for name in unknown], 4)
            raise CheckpointError(str(path), f"holds objects that are no weights ({named})", "save its state_dict()")
        root = rebuilt(pickle.root, zipped_storages(archive, folder), memory_allowance(archive.size), own)
        if not isinstance(root, _Module):
            raise BadPickle("it is no TorchScript archive of a module")
        found = dict(_tensors(root))
    if not found:
        remedy = "save the network before torch.jit.freeze"
        raise CheckpointError(str(path), "is a TorchScript archive whose weights are constants of its code", remedy)
    return found


def _object(rebuilder: Rebuilder, call: Call) -> _Module | Unread:
    """An object with its attributes; what is made of arguments, as named tuples and enums are, holds no weights."""
    if call.items or call.pairs or len(call.states) > 1:
        raise BadPickle("an object in it is made in an unusual way")
    if call.args or not call.states or not isinstance(call.states[0], Dict):
        return Unread(getattr(call.what, "dotted", ""))
    attributes = {}
    for key, record in call.states[0].entries():
        name = text_of(key)
        if name is None or not is_attribute_name(name) or name in attributes:
            raise BadPickle("a module in it has an attribute without a name of its own")
        attributes[name] = rebuilder.value(record)
    return _Module(attributes)


def _listed(rebuilder: Rebuilder, call: Call) -> Any:
    """`build_intlist([...])`, which hands on the list."""
    return _first(rebuilder, call, 1)


def _tagged(rebuilder: Rebuilder, call: Call) -> Any:
    """`restore_type_tag(value, "List[int]")`, which hands on the value."""
    return _first(rebuilder, call, 2)


def _first(rebuilder: Rebuilder, call: Call, count: int) -> Any:
    if len(call.args) != count or call.states or call.items or call.pairs:
        raise BadPickle("a list in it is made in an unusual way")
    return rebuilder.value(call.args[0])


def _tensors(root: _Module) -> Iterator[tuple[str, Tensor | NoNumbers]]:
    seen, pending = 0, [("", root)]
    while pending:
        prefix, module = pending.pop()
        inner = []
        for name, value in module.attributes.items():
            seen += 1
            if seen > _MOST_ATTRIBUTES:
                raise BadPickle(f"its modules have more than {_MOST_ATTRIBUTES:,} attributes in all")
            if isinstance(value, _Module):
                inner.append((f"{prefix}{name}.", value))
            elif isinstance(value, (Tensor, NoNumbers)):
                yield f"{prefix}{name}", value
        pending.extend(reversed(inner))
