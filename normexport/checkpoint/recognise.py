"""Which dialect a norm was stored in: by its keys, shapes and version, never by a class name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from normexport.checkpoint.dialect import EPS, Dialect, Vector
from normexport.checkpoint.dialects import DIALECTS
from normexport.checkpoint.state import State
from normexport.errors import CheckpointError

#: An observer of fake quantisation that norms own as a child; its keys count as the norm's.
OBSERVER = "quantize_input"

#: The version that PyTorch notes of a class that says none: BatchNorm and what inherits it have 2.
_OF_OWN_CLASSES = 1

_SOUNDS_LIKE_A_NORM = ("running_mean", "running_var", "running_scale", "inv_scale")


@dataclass(frozen=True)
class Stored:
    """One module's own tensors, as a norm would have them: `values` by key, `metadata` as `_metadata` has it."""

    path: str
    values: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        """The version of the class that wrote it, None where the file no longer says."""
        version = self.metadata.get("version")
        return version if isinstance(version, int) else None

    @property
    def kind(self) -> str | None:
        """The kind that normexport's modules note in the metadata."""
        kind = self.metadata.get("kind")
        return kind if isinstance(kind, str) else None

    @property
    def eps(self) -> float:
        """The epsilon that normexport's modules note, else the usual default."""
        eps = self.metadata.get("eps", EPS)
        return float(eps) if isinstance(eps, (int, float)) else EPS

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.values)

    def arrays(self) -> dict[str, Vector]:
        """The values as float64 numpy, half types included."""
        return {key: value.detach().cpu().to(torch.float64).numpy() for key, value in self.values.items()}

    def readings(self, named: Dialect | None = None) -> tuple[Dialect, ...]:
        """Every dialect these tensors can be of; one where keys or version settle it, none if it is no norm.

        `named` by the user is one of them where notes of the file only make it unlikely: a script may have cut them.
        """
        # With a counter it is BatchNorm itself, nearly always, unless the version is that of another class.
        counted = "num_batches_tracked" in self.values and self.version != _OF_OWN_CLASSES
        fitting = tuple(each for each in self.fitting() if not (each.inherits and counted) or each is named)
        if self.metadata and "num_batches_tracked" not in self.values:
            # normexport's modules note their kind; where there are notes without one, others wrote it.
            noted = self.kind is not None
            likely = tuple(each for each in fitting if (each.name == "normexport") == noted)
            fitting = tuple(each for each in fitting if each in likely or (each is named and not noted)) or fitting
        if any(each.proven(self.version) for each in fitting):
            return tuple(each for each in fitting if each.proven(self.version) or (each.inherits and each is named))
        return fitting

    def fitting(self) -> tuple[Dialect, ...]:
        """Every dialect that has these keys and shapes, whatever the notes of the file make of it."""
        if any(value.is_complex() for value in self.values.values()):
            return ()
        shapes = {key: tuple(value.shape) for key, value in self.values.items()}
        return tuple(each for each in DIALECTS.values() if each.fits(shapes))

    def looks_like_a_norm(self) -> bool:
        """Whether the keys sound like running statistics, known or not."""
        return any(key in self.values for key in _SOUNDS_LIKE_A_NORM)


def stored_norms(state: State) -> Iterator[Stored]:
    """Every module of `state` that can be a norm of some dialect, in the order of the file."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.tensors.items():
        path, name = split_key(key)
        groups.setdefault(path, {})[name] = value
    for path, values in groups.items():
        stored = Stored(path, values, state.metadata.get(path, {}))
        if stored.looks_like_a_norm():
            yield stored


def split_key(key: str) -> tuple[str, str]:
    """("layer1.bn1", "running_mean"); an observer's tensors belong to the module that owns the observer."""
    path, _, name = key.rpartition(".")
    owner, _, child = path.rpartition(".")
    return (owner, f"{child}.{name}") if child == OBSERVER else (path, name)


def choose(stored: Stored, named: Dialect | None) -> Dialect | None:
    """The dialect of `stored`: the only one possible, or `named` among several; None if it is no norm.

    Raises:
        CheckpointError: several readings are possible and none of them is named.
    """
    if named is not None and named in stored.readings(named):
        return named
    options = stored.readings()
    if len(options) > 1:
        raise ambiguous(stored, options)
    return options[0] if options else None


def ambiguous(stored: Stored, options: Sequence[Dialect]) -> CheckpointError:
    """The refusal that names the readings and the option that decides."""
    return CheckpointError(
        stored.path or "the norm",
        f"{may_be(options)}, and neither keys nor module version tell which",
        f"pass --dialect {'|'.join(each.name for each in options)}",
    )


def may_be(options: Sequence[Dialect]) -> str:
    """ "running_var may be a variance (batchnorm) or the average of d (own-divisor)"."""
    readings: dict[str, list[str]] = {}
    for each in options:
        readings.setdefault(each.reading.words.partition(":")[0], []).append(each.name)
    words = " or ".join(f"{reading} ({', '.join(names)})" for reading, names in readings.items())
    return f"{options[0].stat} may be {words}"


def require_used(named: Dialect | None, used: set[str], place: str) -> None:
    """Refuse a `--dialect` that no norm of the checkpoint can be of."""
    if named is None or named.name in used:
        return
    found = ", ".join(sorted(used)) or "no norm of any dialect"
    raise CheckpointError(
        place,
        f"--dialect {named.name} contradicts its keys (found: {found})",
        "leave --dialect out, or name one of those found",
    )
