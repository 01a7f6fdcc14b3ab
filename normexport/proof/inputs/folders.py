"""Samples that are files, images or arrays: of a folder, with labels where each class has a subfolder, or of shards.

Classes are counted as torchvision's ImageFolder counts them: subfolders in the order of their names, as text ("10"
before "2"), each with what lies at any depth in it. Samples are read from one class after the other in turn, so that a
few of them are of many classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import LABELS_FILE, Kind, Source, source_at
from normexport.io.image_sizes import FreeSide, Side
from normexport.io.images import SUFFIXES, check_image
from normexport.io.numpy_files import opened_arrays
from normexport.io.opening import File
from normexport.io.prepared_images import Steps, steps_for
from normexport.io.preprocess import UNSAID, Preprocess
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import arrays_of, check_shape, fitting
from normexport.proof.inputs.shards import shards
from normexport.runtime import Array, Feeds

_SAMPLES = (".npy", *SUFFIXES)
_LOOKED_AT = 16  # images of shards


@dataclass(frozen=True)
class SampleFolder:
    """The samples of a folder or of shards, none of them read.

    Attributes:
        path: the folder, the archive, or the pattern that names them.
        files: a sample each, in the order in which they are read.
        classes: names of subfolders, by class; () where samples lie in the folder itself.
        labels: the class of each file; () where nothing says it.
        archives: the shards that the samples lie in; () where each is a file of its own.
    """

    path: Path
    files: Sequence[File]
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    archives: tuple[Path, ...] = ()

    @cached_property
    def images(self) -> Sequence[File]:
        """The files that are no arrays."""
        kinds = [file.suffix.lower() != ".npy" for file in self.files]
        return self.files if all(kinds) else tuple(compress(self.files, kinds))

    @property
    def arrays(self) -> Sequence[File]:
        """The files that are no images."""
        return tuple(file for file in self.files if file.suffix.lower() == ".npy")

    @property
    def labels_file(self) -> Path | None:
        """Where labels beside the samples lie; None where there are none."""
        beside = self.path / LABELS_FILE
        return beside if not self.classes and beside.is_file() else None

    def check_images(self) -> None:
        """Look at every image's header; of shards, of which it takes reading all, at those of the first.

        Raises:
            UsageError: one is no image; it is named.
        """
        for file in self.images[:_LOOKED_AT] if self.archives else self.images:
            check_image(file)

    def name(self, number: int) -> str:
        """What messages and digests call a file: of a folder, without where the folder lies."""
        file = self.files[number]
        return (
            file.relative_to(self.path).as_posix()
            if isinstance(file, Path) and self.path in file.parents
            else str(file)
        )


@dataclass(frozen=True)
class FolderRead:
    """What was read of a folder, for reports.

    Attributes:
        path: the folder.
        samples: how many.
        images: the steps that images went through (`Steps.as_dict`); None where there are none.
        classes: names by class; () where samples have no labels by folder.
        note: what nobody asked for, in words; "" where all was said.
    """

    path: str
    samples: int
    images: dict[str, Any] | None = None
    classes: tuple[str, ...] = ()
    note: str = ""

    @property
    def words(self) -> str:
        """In one line."""
        steps = [] if self.images is None else [str(self.images["words"])]
        classes = [f"{len(self.classes)} classes by folder"] if self.classes else []
        return ", ".join([f"{self.samples} {'samples' if self.images is None else 'images'}", *steps, *classes])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "classes": list(self.classes)}


@dataclass(frozen=True)
class FolderSamples:
    """The samples of a folder for one input, read one by one.

    Of sizes that the model leaves open each sample keeps its own, an image the next that is taken; a batch holds
    samples of one size that follow each other. A model of a fixed batch gets as many as that has at a time; what makes
    no whole batch is left over.
    """

    folder: SampleFolder
    spec: InputSpec
    asked: Preprocess = UNSAID

    @cached_property
    def steps(self) -> Steps | None:
        """What is done to images; None where there are none.

        Raises:
            UsageError: see `steps_for`.
        """
        if not self.folder.images:
            return None
        sides: list[Side] = [*self.one.shape]
        for each in self.one.open:
            sides[each.axis] = FreeSide(each.symbol, each.range.nearest)
        return steps_for(self.asked, sides, self.spec.dtype, str(self.folder.images[0]))

    @cached_property
    def one(self) -> InputSpec:
        """A sample: the input without its batch."""
        if self.spec.batched:
            return replace(self.spec, batched=False)
        free = tuple(replace(each, axis=each.axis - 1) for each in self.spec.open if each.axis)
        return replace(self.spec, shape=self.spec.shape[1:], open=free)

    @property
    def at_a_time(self) -> int:
        """How many samples a model of a fixed batch reads at a time; 1 of others."""
        return 1 if self.spec.batched or not self.spec.shape else self.spec.shape[0]

    @property
    def most_rows(self) -> int:
        """How many samples there are at most: an array can be a fixed batch of them."""
        arrays = len(self.folder.files) - len(self.folder.images)
        return len(self.folder.images) + arrays * self.at_a_time

    def batches(self, size: int) -> Iterator[Feeds]:
        """At most `size` samples at a time; of a fixed batch, that.

        Raises:
            UsageError: a file that is no sample; it is named.
        """
        group: list[Array] = []
        size = size if self.spec.batched else self.at_a_time
        for row in self._rows():
            if group and row.shape != group[0].shape:
                yield {self.spec.name: self._ended(group, row)}
                group = []
            group.append(row)
            if len(group) == size:
                yield {self.spec.name: np.stack(group)}
                group = []
        if group and self.spec.batched:
            yield {self.spec.name: np.stack(group)}

    def count(self) -> int:
        """How many feeds of one sample, or of one fixed batch, there are; arrays are taken to hold one sample each.

        Raises:
            UsageError: not even one.
        """
        if self.spec.batched or not self.folder.images:
            return len(self.folder.files)
        runs = len(self.folder.files) // self.at_a_time
        if not runs:
            cause = f"holds {len(self.folder.files)} images, and the model reads {self.at_a_time} at a time"
            raise UsageError(str(self.folder.path), cause, "give more")
        return runs

    def read(self) -> FolderRead:
        """For the report."""
        steps = self.steps
        note = ""
        if steps is not None and not self.asked.asked_for:
            cause = f"nothing says how the images of {self.folder.path} are prepared: {', '.join(steps.words())}"
            note = f"{cause}; a network that was trained on others wants --preset, or --mean and --std"
        images = None if steps is None else steps.as_dict()
        return FolderRead(str(self.folder.path), len(self.folder.files), images, self.folder.classes, note)

    def _ended(self, group: Sequence[Array], following: Array) -> Array:
        """The batch that a sample of another size ends.

        Raises:
            UsageError: the model takes none of so few.
        """
        least = self.spec.batch.length(self.spec.batch.least) if self.spec.batched else self.at_a_time
        if least > 1:
            shapes = f"{group[0].shape} and {following.shape}"
            cause = f"holds samples of shapes {shapes}, and the model reads {least} at a time"
            raise UsageError(str(self.folder.path), cause, "give samples of one size")
        return np.stack(group)

    def _rows(self) -> Iterator[Array]:
        for file in self.folder.files:
            if file.suffix.lower() == ".npy":
                yield from self._array(file)
            else:
                assert self.steps is not None
                yield fitting(str(file), self.one, self.steps.read(file))

    def _array(self, file: File) -> Iterator[Array]:
        """The sample of a file; of a fixed batch all the samples that make one."""
        with opened_arrays(file) as stored:
            array = arrays_of(str(file), stored, (self.spec,))[self.spec.name]
            if not self.spec.batched and len(array.shape) == len(self.spec.shape):
                check_shape(str(file), self.spec, array.shape)
                yield from fitting(str(file), self.spec, array.read())
            else:
                check_shape(str(file), self.one, array.shape)
                yield fitting(str(file), self.one, array.read())


def open_folder(path: str | Path) -> SampleFolder:
    """The samples of a folder, of shards or of a pattern, by name alone: each file is opened when its turn comes.

    Raises:
        UsageError: it can't be listed, holds no samples, or samples beside classes; a class has none; see `shards`.
    """
    return samples_of(source_at(path))


def samples_of(source: Source) -> SampleFolder:
    """See `open_folder`."""
    if source.kind is Kind.SHARDS:
        members, labels = shards(source.files)
        return SampleFolder(source.path, members, labels=labels, archives=source.files)
    return SampleFolder(source.path, source.files) if source.is_pattern else _of_folder(source.path)


def _of_folder(path: Path) -> SampleFolder:
    folders, files = _listed(path)
    files = [name for name in files if name != LABELS_FILE]
    if not folders:
        if not files:
            raise UsageError(str(path), "holds no .npy files and no images", "give a folder of samples")
        return SampleFolder(path, tuple(path / name for name in files))
    if files:
        cause = f"holds samples ({files[0]}) beside folders of samples ({folders[0]})"
        raise UsageError(str(path), cause, "keep one of the two: samples alone, or a folder for each class")
    members = [
        (place, number, file)
        for number, name in enumerate(folders)
        for place, file in enumerate(_samples_of(path / name))
    ]
    members.sort(key=lambda member: member[:2])
    return SampleFolder(
        path, tuple(file for _, _, file in members), tuple(folders), tuple(number for _, number, _ in members)
    )


def folder_for(path: str | Path, specs: Sequence[InputSpec], asked: Preprocess | None = None) -> FolderSamples:
    """The samples of a folder, of shards or of a pattern for a model's only input.

    Raises:
        UsageError: it has several; see `open_folder`.
    """
    return samples_for(source_at(path), specs, asked)


def samples_for(source: Source, specs: Sequence[InputSpec], asked: Preprocess | None = None) -> FolderSamples:
    """See `folder_for`."""
    path = str(source.path)
    if len(specs) != 1:
        raise UsageError(path, f"holds a sample a file, and the model reads {len(specs)} inputs", "save them as .npz")
    if specs[0].batched and specs[0].axes != (0,):
        cause = f"holds a sample a file, and the model has its samples along axis {specs[0].axes[0]}"
        raise UsageError(path, cause, "save them as .npz")
    return FolderSamples(samples_of(source), specs[0], asked or UNSAID)


def _listed(path: Path) -> tuple[list[str], list[str]]:
    """Names of the subfolders, and of the samples, each in order. A hidden folder is a class only if it has samples."""
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        folders = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror or error})", "check its permissions") from error
    files = [each.name for each in entries if each.name.lower().endswith(_SAMPLES) and each.name not in folders]
    with_samples = [name for name in folders if _walk(path / name)]
    if not with_samples and files:
        return [], files  # folders of something else
    return [name for name in folders if name in with_samples or not name.startswith(".")], files


def _samples_of(folder: Path) -> list[Path]:
    found = _walk(folder)
    if not found:
        raise UsageError(str(folder), "holds no images and no .npy files", "fill it, or take it out of the classes")
    return found


def _walk(folder: Path) -> list[Path]:
    """All samples below a folder, in ImageFolder's order; links to folders further down are not followed."""
    return [
        Path(root) / name
        for root, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(_SAMPLES)
    ]
