"""The way from an archive to an exported program that runs nothing but the operators on the list."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2

import normexport.nn  # noqa: F401  (registers torch.ops.normexport, which programs refer to)
from normexport.checkpoint.pt2.archive import CONSTANTS, WEIGHTS, ProgramArchive
from normexport.checkpoint.pt2.consistency import require_consistent
from normexport.checkpoint.pt2.rebuild import canonical_archive, fill_in
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun
from normexport.checkpoint.pt2.samples import plain_samples
from normexport.checkpoint.pt2.schema import plain_payloads, plain_program
from normexport.checkpoint.pt2.tensors import read_tensors
from normexport.errors import CheckpointError
from normexport.garbage import without_collection
from normexport.io.zip_archive import BadArchive


def open_program(path: Path, trust: bool) -> ExportedProgram:
    """The program in `path`, an archive of `torch.export.save`; without `trust` no code of its author runs.

    Raises:
        CheckpointError: it would run code and `trust` is not given (named), is damaged, or is of a PyTorch that this
            one can't read.
    """
    if trust:
        return _load_quietly(lambda: torch.export.load(path), path)
    try:
        with without_collection():
            return _open_rebuilt(path)
    except WouldRun as error:
        cause = f"would run code to be opened: {error}"
        raise CheckpointError(str(path), cause, "pass --trust if you trust its author") from error
    except (Damaged, BadArchive) as error:
        raise CheckpointError(str(path), f"is a damaged exported program: {error}", "export it again") from error


def _open_rebuilt(path: Path) -> ExportedProgram:
    archive = ProgramArchive(path)
    try:
        described = plain_program(archive.program())
        weights, constants = (plain_payloads(archive.table(folder)) for folder in (WEIGHTS, CONSTANTS))
        require_consistent(described, weights, constants)
        samples = plain_samples(archive)
        tensors = [
            read_tensors(archive, folder, table) for folder, table in ((WEIGHTS, weights), (CONSTANTS, constants))
        ]
    finally:
        archive.close()
    # What torch.export.load calls; its caller hides errors, and tries the archives of PyTorch 2.7 next.
    written = canonical_archive(described, weights, constants, samples)
    program = _load_quietly(lambda: load_pt2(written).exported_programs["model"], path)
    fill_in(program, *tensors)
    return program


def _load_quietly(load: Callable[[], ExportedProgram], path: Path) -> ExportedProgram:
    with _quiet():
        try:
            return load()
        # The reader lets out whatever its many parsers raise.
        except Exception as error:
            raise CheckpointError(
                str(path),
                f"is an exported program that this PyTorch can't read ({_first_cause(error)})",
                f"export it again with PyTorch {torch.__version__.partition('+')[0]}",
            ) from error


def _first_cause(error: BaseException) -> str:
    """What went wrong before all that was raised because of it."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    said = str(error).strip().partition("\n")[0][:160]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch logs and warns about what is about to be one clear line."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
