"""What a model was exported with, stored as a pickle: rebuilt from plain values, never unpickled."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from normexport.checkpoint.pickles.inert import BadPickle
from normexport.checkpoint.pickles.machine import read_pickle
from normexport.checkpoint.pickles.rebuild import rebuilt, unknown_names
from normexport.checkpoint.pickles.storages import Storages, ZippedData, is_swapped
from normexport.checkpoint.pickles.unpickle import folder_of
from normexport.checkpoint.pt2.archive import SAMPLES, ProgramArchive
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun
from normexport.io.limits import memory_allowance
from normexport.io.zip_archive import BadArchive, ZipArchive
from normexport.text import shortened


def plain_samples(archive: ProgramArchive) -> bytes:
    """The sample inputs, `(args, kwargs)`, as `torch.save` writes them, their shapes and types without their numbers.

    PyTorch takes from them how inputs are nested, which its guards refer to. Empty where there are none.

    Raises:
        WouldRun: they hold more than tensors and plain values.
        Damaged: they can't be read.
    """
    content = archive.read(SAMPLES, memory_allowance(archive.size))
    if not content:
        return b""
    try:
        samples = _rebuilt(content, memory_allowance(archive.size))
    except (BadArchive, BadPickle, RecursionError) as error:
        raise Damaged(f"the pickle {SAMPLES} can't be read ({error})") from error
    if not isinstance(samples, tuple) or len(samples) != 2:
        raise Damaged(f"the pickle {SAMPLES} holds no inputs")
    buffer = io.BytesIO()
    torch.save(_without_numbers(samples), buffer)
    return buffer.getvalue()


def _rebuilt(content: bytes, most: int) -> Any:
    with ZipArchive(io.BytesIO(content)) as inner:
        folder = folder_of(inner)
        pickle = read_pickle(inner.read(f"{folder}/data.pkl"))
        if unknown := unknown_names(pickle.names):
            raise WouldRun(f"the pickle {SAMPLES}, which names {shortened(unknown, 4)}")
        order = f"{folder}/byteorder"
        swapped = order in inner.members and is_swapped(inner.read(order, 16))
        return rebuilt(pickle.root, Storages(ZippedData(inner, folder), swapped), most)


def _without_numbers(value: Any) -> Any:
    """The same nest of plain containers; a tensor becomes one element that repeats."""
    if isinstance(value, Tensor):
        return torch.zeros((), dtype=value.dtype).expand(value.shape)
    if type(value) in (tuple, list):
        return type(value)(_without_numbers(each) for each in value)
    if isinstance(value, dict):
        return {key: _without_numbers(each) for key, each in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise WouldRun(f"the pickle {SAMPLES}, which holds a {type(value).__name__}")
