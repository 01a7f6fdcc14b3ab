"""Tensors from their records: sizes, strides and offsets are compared with the data that is really there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, Name, Persistent, text_of, whole
from normexport.checkpoint.pickles.rebuilder import Rebuilder
from normexport.checkpoint.pickles.storages import Storage
from normexport.text import first_line

#: Types and ways of quantising by the name that pickles have for them.
DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
#: Types that nothing can be computed in: packed numbers of fewer than 8 bits, and bits without a meaning.
_OPAQUE = ("bits", "float4", "quint", "qint", *(f"{kind}{size}" for kind in ("int", "uint") for size in range(1, 8)))
QUANTISING = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.qscheme)}
_LAYOUTS = {
    str(each): each
    for each in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
}
_MOST_AXES = 64


class NoNumbers:
    """Stands where a tensor is that is not read: `words` say what it is ("is quantised (qint8)"), with the remedy."""

    def __init__(self, words: str, remedy: str) -> None:
        self.words, self.remedy = words, remedy


def build_strided(rebuilder: Rebuilder, call: Call) -> Tensor:
    """`_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)`; older ones had four."""
    args = _arguments(call, 4, 7)
    storage = _storage(rebuilder, args[0])
    if storage.dtype is None:
        raise BadPickle("a tensor in it has no type")
    tensor = _view(rebuilder, storage, storage.dtype, args[1:4])
    _set_conjugate(rebuilder, tensor, args[6] if len(args) == 7 else None)
    return _with_gradient(tensor, args[4] if len(args) > 4 else False)


def strided_typed(rebuilder: Rebuilder, call: Call) -> Tensor:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)`."""
    args = _arguments(call, 7, 8)
    storage, dtype = _storage(rebuilder, args[0]), _dtype(args[6])
    if storage.dtype not in (None, dtype):
        raise BadPickle("a tensor in it has two types")
    tensor = _view(rebuilder, storage, dtype, args[1:4])
    _set_conjugate(rebuilder, tensor, args[7] if len(args) == 8 else None)
    return _with_gradient(tensor, args[4])


def parameter(rebuilder: Rebuilder, call: Call) -> nn.Parameter | NoNumbers:
    """`_rebuild_parameter(data, requires_grad, hooks[, state])`; attributes that Python code set on it are left out."""
    args = _arguments(call, 3, 4)
    data = rebuilder.value(args[0])
    if isinstance(data, NoNumbers):
        return data
    if not isinstance(data, Tensor) or not isinstance(args[1], bool):
        raise BadPickle("a parameter in it is no tensor")
    return nn.Parameter(data, args[1] and _may_have_gradient(data))


def of_type(rebuilder: Rebuilder, call: Call) -> Tensor | NoNumbers:
    """`_rebuild_from_type_v2(function, type, args, state)`: a tensor on which Python code set attributes."""
    args = _arguments(call, 4, 4)
    if not isinstance(args[1], Name) or args[1].dotted not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise BadPickle("a tensor in it is of an unknown class")
    if not isinstance(args[0], Name) or not isinstance(args[2], tuple) or args[0].dotted not in TENSOR_BUILDERS:
        raise BadPickle("a tensor in it is rebuilt in an unusual way")
    inner = Call(args[0], args[2])
    found: Tensor | NoNumbers = TENSOR_BUILDERS[args[0].dotted](rebuilder, inner)
    if args[1].dotted.endswith("Parameter") and isinstance(found, Tensor) and not isinstance(found, nn.Parameter):
        return nn.Parameter(found.detach(), found.requires_grad)
    return found


def sparse(rebuilder: Rebuilder, call: Call) -> Tensor:
    """`_rebuild_sparse_tensor(layout, data)`, its indices checked by PyTorch; the dense size counts."""
    args = _arguments(call, 2, 2)
    layout, data = rebuilder.value(args[0]), args[1]
    if not isinstance(data, tuple) or len(data) not in (3, 4) or not isinstance(layout, torch.layout):
        raise BadPickle("a sparse tensor in it is rebuilt in an unusual way")
    coordinates = layout == torch.sparse_coo
    parts = [rebuilder.value(each) for each in data[: 2 if coordinates else 3]]
    size = _whole_numbers(rebuilder.value(data[2 if coordinates else 3]) if len(data) > 2 + (not coordinates) else None)
    values = parts[-1]
    if not all(isinstance(each, Tensor) and each.layout == torch.strided for each in parts):
        raise BadPickle("a sparse tensor in it lacks its parts")
    rebuilder.room.take(math.prod(size) * values.dtype.itemsize)
    try:
        make: Any = torch.sparse_coo_tensor
        if coordinates:
            made: Tensor = make(*parts, size, check_invariants=True)
            made = made.coalesce() if len(data) == 4 and data[3] is True else made
        else:
            make = torch.sparse_compressed_tensor
            made = make(*parts, size, layout=layout, check_invariants=True)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise BadPickle(f"a sparse tensor in it contradicts itself ({first_line(error, 100)})") from None
    return made


def on_meta(rebuilder: Rebuilder, call: Call) -> NoNumbers:
    """`_rebuild_meta_tensor_no_storage(...)`: a shape without numbers."""
    return NoNumbers("has a shape and no numbers (device meta)", "save it from the CPU")


def build_quantised(rebuilder: Rebuilder, call: Call) -> NoNumbers:
    """`_rebuild_qtensor(storage, ...)`: its numbers mean nothing without the network that quantised them."""
    first = call.args[0] if call.args else None
    dtype = rebuilder.storages.get(first).dtype if isinstance(first, Persistent) else None
    kind = str(dtype).removeprefix("torch.")
    return NoNumbers(f"is quantised ({kind})", "give the float network that was quantised")


TENSOR_BUILDERS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": build_strided,
    "torch._utils._rebuild_tensor_v2": build_strided,
    "torch._utils._rebuild_tensor_v3": strided_typed,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
    "torch._utils._rebuild_sparse_tensor": sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": on_meta,
    "torch._utils._rebuild_qtensor": build_quantised,
    "torch._tensor._rebuild_from_type_v2": of_type,
}


def layout_named(rebuilder: Rebuilder, call: Call) -> torch.layout:
    """`_get_layout("torch.sparse_coo")`."""
    (name,) = _arguments(call, 1, 1)
    found = _LAYOUTS.get(text_of(name) or "")
    if found is None:
        raise BadPickle("a tensor in it has an unknown layout")
    return found


def _arguments(call: Call, least: int, most: int) -> tuple[Any, ...]:
    if not least <= len(call.args) <= most or call.states or call.items or call.pairs:
        raise BadPickle("a tensor in it is rebuilt in an unusual way")
    return call.args


def _storage(rebuilder: Rebuilder, said: Any) -> Storage:
    if not isinstance(said, Persistent):
        raise BadPickle("a tensor in it has no data")
    return rebuilder.storages.get(said)


def _dtype(said: Any) -> torch.dtype:
    found = DTYPES.get(said.dotted) if isinstance(said, Name) else None
    if found is None:
        raise BadPickle("a tensor in it has no type")
    return found


def _whole_numbers(said: Any) -> tuple[int, ...]:
    if not isinstance(said, (tuple, list)) or len(said) > _MOST_AXES or not all(whole(each) for each in said):
        raise BadPickle("a tensor in it has a size that is no list of whole numbers")
    if any(each < 0 for each in said):
        raise BadPickle("a tensor in it has a negative size or stride")
    return tuple(said)


def _view(rebuilder: Rebuilder, storage: Storage, dtype: torch.dtype, where: tuple[Any, ...]) -> Tensor:
    """The tensor at (offset, size, stride), in elements, of a storage that has them all."""
    offset, size, stride = where[0], *(_whole_numbers(rebuilder.value(each)) for each in where[1:])
    if not whole(offset) or offset < 0 or len(size) != len(stride):
        raise BadPickle("a tensor in it has a size, stride and offset that do not fit together")
    kind = str(dtype).removeprefix("torch.")
    if kind.startswith(_OPAQUE[:4]) or kind in _OPAQUE:
        raise BadPickle(f"holds a tensor of type {kind}, which nothing computes in", "convert it before saving")
    numel, itemsize = math.prod(size), dtype.itemsize
    rebuilder.room.take(numel * itemsize)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if numel else offset - 1
    there = storage.count if storage.dtype is not None else storage.count // itemsize
    begin = storage.begin if storage.dtype is not None else storage.begin // itemsize
    if last >= there or offset > there:
        raise BadPickle(f"a tensor in it ({'x'.join(map(str, size)) or 'a number'}) reaches beyond its data")
    if not numel and max((*size, *stride)) > 1 << 40:  # no data bounds them, and their products would overflow
        raise BadPickle("an empty tensor in it has impossible sizes")
    return torch.empty(0, dtype=dtype).set_(storage.memory.untyped_storage(), begin + offset, size, stride)


def _set_conjugate(rebuilder: Rebuilder, tensor: Tensor, said: Any) -> None:
    """Complex tensors can be stored as the conjugate or negative of their data."""
    marks = dict(said.entries()) if isinstance(said, Dict) and all(isinstance(k, str) for k in said.pairs[::2]) else {}
    if said is not None and (not isinstance(said, Dict) or len(marks) * 2 != len(said.pairs)):
        raise BadPickle("a tensor in it has unknown properties")
    if any(key not in ("conj", "neg") or not isinstance(value, bool) for key, value in marks.items()):
        raise BadPickle("a tensor in it has unknown properties")
    if any(marks.values()):
        if not (tensor.is_complex() or (tensor.is_floating_point() and not marks.get("conj"))):
            raise BadPickle("a tensor in it is the conjugate of real numbers")
        torch._utils.set_tensor_metadata(tensor, marks)


def _may_have_gradient(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _with_gradient(tensor: Tensor, wanted: Any) -> Tensor:
    if not isinstance(wanted, bool):
        raise BadPickle("a tensor in it is rebuilt in an unusual way")
    return tensor.requires_grad_(True) if wanted and _may_have_gradient(tensor) else tensor
