"""The files of a bundle -> a folder, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.atomic import Together


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds more than a bundle: a server would load what was left in it.

    Raises:
        UsageError: there is something in it, and it is no bundle.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.bundle.json").is_file():
        raise UsageError(str(folder), "holds other files, and a server would take them for the model's", "remove them")


def write_bundle(files: Mapping[str, bytes | Path], folder: Path, outputs: Together) -> tuple[Path, ...]:
    """Write the files, `model.bundle.json` after all others; returns their paths.

    Args:
        outputs: with which they appear.

    Raises:
        UsageError: the folder can't be written, or holds files that are not of this bundle.
    """
    check_folder(folder)
    wanted = {folder / name for name in files}
    left = (
        sorted(path for path in folder.rglob("*") if not path.is_dir() and path not in wanted)
        if folder.is_dir()
        else []
    )
    if left:
        cause = f"holds {left[0].relative_to(folder)}, which is not of this bundle"
        raise UsageError(str(folder), cause, "remove the folder, and convert again")
    paths = tuple(folder / name for name in files)
    for file, given in zip(outputs.files(*paths), files.values(), strict=True):
        if isinstance(given, bytes):
            file.write_bytes(given)
        else:
            shutil.copyfile(given, file)
    return paths
