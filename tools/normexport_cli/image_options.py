"""Options that say what is done to images, where data is a folder of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from normexport.errors import UsageError
from normexport.io.preprocess import CHANNELS, INTERPOLATIONS, LAYOUTS, PRESETS, Preprocess, Size
from normexport_cli.compare_options import CompareOptions
from normexport_cli.help import one_of
from normexport_cli.where_options import DrawOptions

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,6})(?:x(\d{1,6}))?", re.ASCII)


@dataclass(frozen=True)
class ImageOptions:
    """What is done to the images of a folder.

    Raises:
        UsageError: text that is no number or size; see `Preprocess`.
    """

    PANEL: ClassVar = "Images, where the data is a folder of them"

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help=f"How images are prepared: {', '.join(PRESETS)}; listed below.",
            autocompletion=one_of(*PRESETS),
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="Subtracted from scaled pixels; one number, or one per channel."),
    ] = None
    std: Annotated[
        str | None, typer.Option("--std", metavar="R,G,B", help="What the difference is divided by, as --mean.")
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale", metavar="S", help="What pixels of 0 to 255 are multiplied by: 1/255 (255 alike), or 1."
        ),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="L",
            help=f"{' or '.join(LAYOUTS)}, where the shape does not tell.",
            autocompletion=one_of(*LAYOUTS),
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option("--resize", metavar="SIZE", help="The short side, 256, or 256x320 (height, width)."),
    ] = None
    crop: Annotated[
        str | None, typer.Option("--crop", metavar="SIZE", help="What is cut out of the centre: 224, or 224x320.")
    ] = None
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            metavar="C",
            help=f"{', '.join(CHANNELS[:-1])} or {CHANNELS[-1]}.",
            autocompletion=one_of(*CHANNELS),
        ),
    ] = None
    interpolation: Annotated[
        str | None,
        typer.Option(
            "--interpolation",
            metavar="I",
            help=f"{', '.join(INTERPOLATIONS[:-1])} or {INTERPOLATIONS[-1]}.",
            autocompletion=one_of(*INTERPOLATIONS),
        ),
    ] = None
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess", metavar="M:F", help="Code that makes a sample of a PIL.Image: package.module:function."
        ),
    ] = None

    def __post_init__(self) -> None:
        self.prepared()  # has refusals of its own

    def prepared(self) -> Preprocess | None:
        """The same in the library's terms; None where nothing is said."""
        said: dict[str, Any] = {
            "mean": _numbers("--mean", self.mean),
            "std": _numbers("--std", self.std),
            "scale": _scale(self.scale),
            "layout": self.layout,
            "resize": _size("--resize", self.resize),
            "crop": _size("--crop", self.crop),
            "channels": self.channels,
            "interpolation": self.interpolation,
            "function": self.preprocess,
        }
        said = {name: value for name, value in said.items() if value is not None}
        if self.preset is not None:
            return Preprocess.of(self.preset, **said)
        return Preprocess(**said) if said else None


@dataclass(frozen=True)
class DataOptions(ImageOptions, CompareOptions):
    """What two models are compared on, and what is done to images of it."""

    def __post_init__(self) -> None:
        CompareOptions.__post_init__(self)
        ImageOptions.__post_init__(self)


@dataclass(frozen=True)
class DrawnImageOptions(DrawOptions, ImageOptions):
    """What is done to images, and which samples are meant."""

    def __post_init__(self) -> None:
        ImageOptions.__post_init__(self)
        DrawOptions.__post_init__(self)


@dataclass(frozen=True)
class DrawnDataOptions(DrawOptions, DataOptions):
    """Which of it, too."""

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        DrawOptions.__post_init__(self)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(_number(f"{option} {text}", part, "write it as 0.485,0.456,0.406") for part in text.split(","))


def _scale(text: str | None) -> float | None:
    """A factor; what is above 1 is what pixels are divided by."""
    if text is None:
        return None
    above, slash, below = text.partition("/")
    place, example = f"--scale {text}", "write it as 1/255"
    number = _number(place, above, example)
    by = _number(place, below, example) if slash else 1.0
    if not by or not number:
        raise UsageError(place, "is no factor", example)
    factor = number / by
    return 1 / factor if factor > 1 else factor


def _number(place: str, text: str, example: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise UsageError(place, f"holds {text.strip()!r}, which is not a number", example)
    return float(text)


def _size(option: str, text: str | None) -> Size | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{option} {text}", "is not a size", "write it as 224, or 224x320")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))
