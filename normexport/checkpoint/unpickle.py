"""Read what `torch.save` wrote without running anything it names: an allow-list, and `--trust` for the rest."""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm

import normexport.nn  # noqa: F401  (so that its classes are known)
from normexport.checkpoint.imports import working_folder_importable
from normexport.checkpoint.words import shortened
from normexport.errors import CheckpointError

_NAMED = re.compile(r"GLOBAL ([\w.]+)")


def unpickle(path: Path, trust: bool) -> Any:
    """The object in `path`, tensors on the CPU.

    Without `trust` only torch.nn and normexport classes, containers, numpy scalars and the like are rebuilt.

    Raises:
        CheckpointError: the file would run other code (named), is damaged, or needs a missing module.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _trusted(path) if trust else _guarded(path)
    except CheckpointError:
        raise
    except (ModuleNotFoundError, AttributeError) as error:
        raise CheckpointError(
            str(path),
            f"needs code that can't be imported here ({_first_line(error)})",
            "run in the folder of that code, or give a state_dict with --model",
        ) from error
    # A damaged pickle can raise anything: UnpicklingError, EOFError, KeyError, UnicodeDecodeError, ...
    except Exception as error:
        raise CheckpointError(
            str(path), f"can't be read ({_first_line(error)})", "it is damaged, or not from torch.save"
        ) from error


def _trusted(path: Path) -> Any:
    with working_folder_importable():
        return torch.load(path, map_location="cpu", weights_only=False)


def _guarded(path: Path) -> Any:
    with torch.serialization.safe_globals(allowed()):
        try:
            _refuse_unknown(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _refusal(path, str(error)) from error


def _refuse_unknown(path: Path) -> None:
    """Name everything outside the allow-list at once; only zip files can be listed without loading."""
    if not zipfile.is_zipfile(path):
        return
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    if unknown:
        raise _would_run(path, sorted(unknown))


def _would_run(path: Path, named: list[str]) -> CheckpointError:
    return CheckpointError(
        str(path),
        f"would run code to be loaded: {shortened(named, 4)}",
        "pass --trust if you trust its author, or give a state_dict with --model",
    )


def _refusal(path: Path, message: str) -> CheckpointError:
    """PyTorch's refusal, a paragraph with advice, in one line."""
    named = _NAMED.search(message)
    if named:
        return _would_run(path, [named[1]])
    if "persistent_load" in message:
        return CheckpointError(
            str(path),
            "is a whole module in PyTorch's file format before 1.6, which can't be read without running its pickle",
            "pass --trust if you trust its author, or give a state_dict with --model",
        )
    reason = (message.partition("WeightsUnpickler error:")[2].strip() or message.strip()).partition("\n")[0]
    return CheckpointError(
        str(path),
        f"can't be read without running it ({reason[:160]})",
        "it is damaged, or saved in an unusual way: pass --trust if you trust its author",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


@cache
def allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Classes and functions that rebuild data and run nothing else, with older names of the same things."""
    return [*_module_classes(), *_numpy(), *_plain()]


def _module_classes() -> Iterator[Callable[..., Any]]:
    """Every nn.Module of torch.nn.modules and normexport.nn, and what their pickles name."""
    pending: list[type[nn.Module]] = [nn.Module]
    while pending:
        each = pending.pop()
        pending.extend(each.__subclasses__())
        if each.__module__.startswith(("torch.nn.modules.", "normexport.nn")):
            yield each
    yield from (nn.DataParallel, WeightNorm, nn.functional.relu, nn.functional.gelu)


def _numpy() -> Iterator[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """numpy scalars and arrays (best_prec1 and the like), by the module names of numpy 1 and 2."""
    multiarray = (np._core if hasattr(np, "_core") else np.core).multiarray
    for package in ("numpy._core", "numpy.core"):
        yield multiarray.scalar, f"{package}.multiarray.scalar"
        yield multiarray._reconstruct, f"{package}.multiarray._reconstruct"
    yield from (np.ndarray, np.dtype)
    yield from {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}


def _plain() -> Iterator[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Containers of the standard library that training scripts put beside the weights."""
    yield from (argparse.Namespace, types.SimpleNamespace, collections.OrderedDict)
    yield _plain_dict, "collections.defaultdict"
    yield from (dict, list, tuple, set, frozenset, int, float, complex, str, bytes, bool, slice, range)
    for module in ("pathlib", "pathlib._local"):
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
            # A pure path of the same text: a file written on Windows opens on Linux.
            pure = pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
            yield pure, f"{module}.{name}"


def _plain_dict(factory: object = None) -> dict[Any, Any]:
    """A defaultdict without its factory: the reader of PyTorch fills only dicts."""
    return {}
