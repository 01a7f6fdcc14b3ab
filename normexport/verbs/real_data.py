"""What `data` names: a file of arrays, or a folder of images or arrays, and what is done to its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import Kind, source_at
from normexport.io.preprocess import UNSAID, Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision import EightBit, Judged, Limits, require_samples
from normexport.precision.collected import BATCH
from normexport.precision.config import ALL, Draw
from normexport.precision.labelled_output import require_limit
from normexport.precision.labels import Labelled, labels_in
from normexport.precision.metrics import metric_of
from normexport.precision.numbered import Numbered, samples_by_number
from normexport.precision.runs import Given, Stream
from normexport.precision.streams import kept_in_memory, stream_of, without_unreadable
from normexport.proof.inputs.data import load_data
from normexport.proof.inputs.folders import FolderRead, folder_for, samples_of
from normexport.proof.inputs.mixed import joined_rows
from normexport.runtime import Array
from normexport.user_code import name_of
from normexport.verbs.config import ConvertConfig
from normexport.workers import LOCAL, Where


@dataclass(frozen=True)
class Opened:
    """Samples that can be read.

    Attributes:
        few: the first of them in memory, (samples, *shape) by input name; all, where they are not read one by one.
        all: every one.
        skipped: those that could not be read and are left out, a line each.
    """

    few: dict[str, Array]
    all: Given
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class RealData:
    """Real inputs, and labels where there are any: whatever `io.data_sources` knows."""

    path: str | Path
    prepared: Preprocess = UNSAID
    draw: Draw = ALL

    @classmethod
    def of(cls, config: ConvertConfig) -> RealData | None:
        """What a conversion was given; None where it was given nothing."""
        return None if config.data is None else cls(config.data, config.preprocess or UNSAID, config.draw)

    def load(self, specs: Sequence[InputSpec]) -> dict[str, Array]:
        """Arrays (samples, *shape) by input name.

        Raises:
            UsageError: see `load_data`.
        """
        return load_data(self.path, specs, self.prepared)

    def stream(self, specs: Sequence[InputSpec]) -> Numbered | None:
        """The samples, read as their turn comes; None where only arrays in memory serve, by the model's inputs.

        Raises:
            UsageError: see `stream_of`.
        """
        return stream_of(self.path, specs, BATCH, self.draw, self.prepared)

    def opened(self, specs: Sequence[InputSpec], where: Where | None = None) -> Opened:
        """The samples for what looks at some of them, and for what runs on them all.

        Args:
            where: which processes look for samples that can't be read, where some may be left out.

        Raises:
            UsageError: see `stream_of`, `without_unreadable` and `load_data`.
        """
        stream = self.stream(specs)
        if stream is None:
            arrays = self.load(specs)
            return Opened(arrays, arrays)
        stream, skipped = without_unreadable(stream, where or LOCAL)
        stream = kept_in_memory(stream)
        return Opened(stream.rows(BATCH), stream, skipped)

    def first(self, specs: Sequence[InputSpec], most: int, runs: int = 1) -> Opened:
        """The first samples, for what looks at no others: `few` alone, and those that were passed over.

        Args:
            most: samples.
            runs: of a model whose batch is fixed, so many of it instead. A batch that is bounded, or lies on another
                axis, is given all: they have to fit into memory.

        Raises:
            UsageError: see `stream_of` and `load_data`; more can't be read than may be left out.
        """
        stream = self.stream(specs)
        if stream is not None:
            skipped: dict[int, str] = {}
            few = stream.rows(most, skipped)
            return Opened(few, few, tuple(line for _, line in sorted(skipped.items())))
        few = self.load(specs) if any(spec.batched for spec in specs) else self._fixed(specs, runs)
        return Opened(few, few)

    def _fixed(self, specs: Sequence[InputSpec], runs: int) -> dict[str, Array]:
        """The first runs of a model whose batch is fixed, one after the other in each array."""
        samples = samples_by_number(self.path, specs, self.prepared)
        read = [feeds for number in range(min(runs, samples.count)) for feeds in samples.read(number)]
        if not read:
            raise UsageError(str(self.path), "holds no samples", "give at least one")
        return {spec.name: _joined([feeds[spec.name] for feeds in read]) for spec in specs}

    def labels(self, samples: Stream) -> Array | None:
        """The label of each sample; None where there are none.

        Raises:
            UsageError: unreadable, or no labels; there are not as many as samples to draw from.
        """
        labels = labels_in(self.path)
        if labels is None:
            return None
        if isinstance(samples, Numbered):
            known = samples.samples.count
            if len(samples.numbers) == known:
                return labels
            if len(labels) != known:
                raise UsageError("labels", f"are {len(labels)}, the samples {known}", "give one label per sample")
            chosen: Array = labels[np.asarray(samples.numbers)]
            return chosen
        if not isinstance(samples, Mapping) or not source_at(self.path).by_file:
            return labels
        (loaded,) = samples.values()
        return labels[: len(loaded)]

    def read(self, specs: Sequence[InputSpec]) -> FolderRead | None:
        """What is said of a folder in reports; None for a file."""
        return folder_for(self.path, specs, self.prepared).read() if source_at(self.path).by_file else None


def _joined(parts: Sequence[Array]) -> Array:
    """Arrays one after the other; one alone where it is the same for all."""
    return parts[0] if all(part is parts[0] for part in parts) else joined_rows(parts)


def require_data(draw: Draw, *paths: object) -> None:
    """Refuse to draw from nothing.

    Raises:
        UsageError: samples are asked for, and there is no data.
    """
    if draw.option and not any(path is not None for path in paths):
        raise UsageError(draw.option, "means nothing without data", "give --data too, or leave it out")


def check_images(prepared: Preprocess | None, *paths: object, headers: bool = True) -> Preprocess:
    """What is done to images, its function imported; folders of images are looked at, before anything long begins.

    Args:
        prepared: None where nothing was said.
        paths: of data; those that are no folders are passed over.
        headers: whether images are looked at; they are not where some may be left out.

    Raises:
        UsageError: a folder has no samples, or one that is no image; there are no images to do anything to.
        MissingComponent: Pillow is not installed.
    """
    asked = (prepared or UNSAID).loaded()
    sources = [source_at(path) for path in paths if isinstance(path, str | Path)]
    folders = [samples_of(source) for source in sources if source.by_file]
    for folder in folders if headers else ():
        folder.check_images()
    may_be = any(source.kind is Kind.TABLES for source in sources)
    if asked.asked_for and not may_be and not any(folder.images for folder in folders):
        raise UsageError(asked.first_option, "is for images, and no folder of images is given", "leave it out")
    return asked


def data_to_judge_on(
    config: ConvertConfig, data: RealData | None, opened: Opened | None, specs: Sequence[InputSpec]
) -> Judged | None:
    """The data that a reduced precision is judged on, with its labels; None where there is none."""
    if data is None or opened is None:
        return None
    read = data.read(specs)
    classes = () if read is None else read.classes
    return Judged(opened.all, data.labels(opened.all), config.labels_for, config.metric, classes, opened.skipped)


def require_labels(data: str | Path) -> None:
    """Refuse data without labels, where nothing else says what is right.

    Raises:
        UsageError: there are none, or they can't be read.
    """
    if labels_in(data) is None:
        words = {Kind.SAMPLES: "has no folder for each class", Kind.ARRAYS: "holds no array labels"}
        cause = words.get(source_at(data).kind, "holds no labels")
        raise UsageError(str(data), cause, "save labels in it, or give --reference")


def check_data(config: ConvertConfig) -> None:
    """Refuse data that a reduced precision can't be measured on, before a model is loaded.

    Raises:
        UsageError: there are no samples to calibrate on; labels are asked for that are not there, or that no metric
            and no limit is said for; the data can't be read.
    """
    precision = config.precision
    if precision is None:
        return
    if isinstance(precision, EightBit):
        require_samples(precision, config.data is not None)
    labels = None if config.data is None else labels_in(config.data)
    if labels is not None:
        labelled = Labelled(labels, config.labels_for, config.metric)
        metric_of(labelled)  # has refusals of its own
        if isinstance(precision, EightBit):
            require_limit(labelled, Limits(max_drop=precision.max_drop))
    asked = {"--labels-for": config.labels_for, "--metric": config.metric}
    for option, given in asked.items():
        if given is not None and labels is None:
            raise UsageError(f"{option} {name_of(given)}", "there are no labels", "give --data with an array labels")
