"""What `data` names: a file of arrays, or a folder of images or arrays, and what is done to its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.preprocess import UNSAID, Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision.labels import labels_in
from normexport.proof.inputs.data import load_data
from normexport.proof.inputs.folders import FolderRead, folder_for, open_folder
from normexport.runtime import Array


@dataclass(frozen=True)
class RealData:
    """Real inputs, and labels where there are any."""

    path: str | Path
    prepared: Preprocess = UNSAID

    def load(self, specs: Sequence[InputSpec]) -> dict[str, Array]:
        """Arrays (samples, *shape) by input name.

        Raises:
            UsageError: see `load_data`.
        """
        return load_data(self.path, specs, self.prepared)

    def labels(self, samples: int) -> Array | None:
        """The labels, of a folder those of the samples that were loaded; None where there are none.

        Raises:
            UsageError: unreadable, or no labels.
        """
        labels = labels_in(self.path)
        return labels[:samples] if labels is not None and Path(self.path).is_dir() else labels

    def read(self, specs: Sequence[InputSpec]) -> FolderRead | None:
        """What is said of a folder in reports; None for a file."""
        return folder_for(self.path, specs, self.prepared).read() if Path(self.path).is_dir() else None


def check_images(prepared: Preprocess | None, *paths: object) -> Preprocess:
    """What is done to images, its function imported; folders of images are looked at, before anything long begins.

    Args:
        prepared: None where nothing was said.
        paths: of data; those that are no folders are passed over.

    Raises:
        UsageError: a folder has no samples, or one that is no image; there are no images to do anything to.
        MissingComponent: Pillow is not installed.
    """
    asked = (prepared or UNSAID).loaded()
    given = [Path(path) for path in paths if isinstance(path, str | Path)]
    folders = [open_folder(path) for path in given if path.is_dir()]
    for folder in folders:
        folder.check_images()
    there = all(path.exists() for path in given)  # what is not is told by whoever reads it
    if asked.asked_for and there and not any(folder.images for folder in folders):
        raise UsageError(asked.first_option, "is for images, and no folder of images is given", "leave it out")
    return asked
