"""What a call asks that can be refused in a moment: files that are not there, texts that are no shapes, unknown words.

Nothing of this needs PyTorch, whose import alone takes seconds: a command asks here before it loads a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normexport.io.opening import opened, require_there

if TYPE_CHECKING:
    from normexport.onnx_export import InputSpec


def check_early(
    *sources: object,
    inputs: Sequence[str | InputSpec] = (),
    data: Sequence[object] = (),
    plans: Sequence[Path] = (),
    dialect: str | None = None,
    trust: bool = False,
    folders: Sequence[Path] = (),
) -> None:
    """Refuse what can't come to anything; what is in memory already is passed over.

    Args:
        sources: paths of checkpoints and ONNX files.
        inputs: shapes, as their texts or parsed.
        data: an .npz or .npy file, or a folder.
        plans: paths of plans, whose manifests are read.
        dialect: the name of one; None: none is given.
        trust: whether archives may have any form that PyTorch opens.
        folders: where outputs shall be; made if need be.

    Raises:
        UsageError: a file is not there, a text is no shape, there is no such dialect, a folder can't be written.
        CheckpointError: a file is not what PyTorch wrote.
        FoldError: a file is not ONNX.
    """
    for folder in folders:
        from normexport.io.atomic import check_writable

        check_writable(folder)
    for path in (Path(each) for each in sources if isinstance(each, str | Path)):
        _check_source(path, trust)
    for plan in plans:
        from normexport.engine import read_manifest

        read_manifest(plan)
    for path in (Path(each) for each in data if isinstance(each, str | Path)):
        _check_data(path)
    if dialect is not None:
        from normexport.checkpoint.dialects import dialect_named

        dialect_named(dialect)
    texts = [each for each in inputs if isinstance(each, str)]
    if texts:
        from normexport.onnx_export import parse_inputs

        parse_inputs(texts)


def _check_source(path: Path, trust: bool) -> None:
    """A file of the kind that its name says, as far as its first bytes tell."""
    if path.suffix.lower() == ".onnx":
        with opened(path):
            return
    require_there(path)
    if path.is_file():
        from normexport.checkpoint.container import container

        container(path, trust)


def _check_data(path: Path) -> None:
    """Files of some kind of samples; those of arrays are opened."""
    from normexport.io.data_sources import Kind, source_at
    from normexport.io.numpy_files import opened_arrays

    source = source_at(path)
    for file in source.files if source.kind is Kind.ARRAYS else ():
        with opened_arrays(file):
            pass
