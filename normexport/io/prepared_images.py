"""Images made samples of one input: every step chosen, for its shape and type, before the first image is read.

Pillow resizes, with antialiasing, as torchvision does with its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from normexport.errors import MissingComponent, UsageError
from normexport.io.image_sizes import (
    FreeSide,
    Side,
    choose_sizes,
    cropped_size,
    is_of,
    keeps_size,
    resized_size,
    size_words_of,
)
from normexport.io.images import MOST_PIXELS, REMEDY, read_image
from normexport.io.opening import File
from normexport.io.preprocess import Preprocess, Size, scale_words, size_words
from normexport.user_code import name_of, words_of

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]

_COUNTS = {"rgb": 3, "bgr": 3, "grey": 1}


@dataclass(frozen=True)
class Steps:
    """What is done to each image, with nothing left open.

    Attributes:
        shape: of a sample; what is open in it is each image's own, or what the model takes next to that.
        layout: "NCHW" or "NHWC".
        channels: "rgb", "bgr" or "grey".
        resize: the short side, or (height, width); None: left as it is.
        crop: (height, width); None: none.
        interpolation: Pillow's word, small.
        table: (channels, 256) what each pixel value becomes, in the input's type.
        function: does all of it instead.
        asked: what was asked for.
    """

    shape: tuple[Side, ...]
    layout: str
    channels: str
    resize: Size | None
    crop: tuple[int, int] | None
    interpolation: str
    table: Array
    asked: Preprocess

    def read(self, path: File) -> Array:
        """The sample that an image file becomes, of `shape`.

        Raises:
            UsageError: it can't be read, is too small for the crop, or the function fails.
        """
        mode = "L" if self.channels == "grey" else "RGB"
        if self.asked.function is not None:
            return read_image(path, mode, lambda image: self._call(path, image))
        return read_image(path, mode, lambda image: self._sample(path, image))

    def words(self) -> tuple[str, ...]:
        """The steps, for people."""
        if self.asked.function is not None:
            return (self.channels.upper(), f"prepared by {name_of(self.asked.function)}")
        words = [f"preset {self.asked.preset}"] if self.asked.preset else []
        if isinstance(self.resize, int):
            words.append(f"short side {self.resize} ({self.interpolation})")
        elif keeps_size(self._size, self.resize, self.crop):
            size = size_words_of(self._size)
            words.append(f"{size}, where open the image's own or next to it ({self.interpolation})")
        elif self.resize is not None:
            words.append(f"resized to {size_words(self.resize)} ({self.interpolation})")
        if self.crop is not None:
            words.append(f"centre {size_words(self.crop)}")
        words += [self.channels.upper(), _formula(self.asked), _range_words(self.table), self.layout]
        return tuple(words)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        chosen: dict[str, Any] = {"layout": self.layout, "channels": self.channels}
        if self.asked.function is None:
            sizes = {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
            chosen |= {**sizes, "values": [float(self.table.min()), float(self.table.max())]}
        return {**self.asked.as_dict(), **chosen, "words": ", ".join(self.words())}

    def _sample(self, path: File, image: Image.Image) -> Array:
        pixels = np.asarray(self._cropped(path, self._resized(path, image)))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if self.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        values = np.stack([row[pixels[:, :, at]] for at, row in enumerate(self.table)])
        sample: Array = values if self.layout == "NCHW" else np.ascontiguousarray(values.transpose(1, 2, 0))
        if not is_of(sample.shape, self.shape):
            has, wanted = (
                size_words_of(size[1:] if self.layout == "NCHW" else size[:2]) for size in (sample.shape, self.shape)
            )
            raise UsageError(str(path), f"becomes {has}, and the model reads {wanted}", "give --crop, or --resize HxW")
        return sample

    @property
    def _size(self) -> tuple[Side, Side]:
        """Height and width of a sample."""
        tall, wide = self.shape[1:3] if self.layout == "NCHW" else self.shape[:2]
        return tall, wide

    def _resized(self, path: File, image: Image.Image) -> Image.Image:
        wide, tall = image.size
        height, width = resized_size(self._size, self.resize, self.crop, (tall, wide))
        if height * width > MOST_PIXELS:
            cause = f"would become {width} x {height} pixels, and {MOST_PIXELS // 10**6} million are the most"
            raise UsageError(str(path), cause, REMEDY)
        from PIL import Image

        resampling = Image.Resampling[self.interpolation.upper()]
        return image if (wide, tall) == (width, height) else image.resize((width, height), resampling)

    def _cropped(self, path: File, image: Image.Image) -> Image.Image:
        wide, tall = image.size
        height, width = cropped_size(self._size, self.crop, (tall, wide))
        if height > tall or width > wide:
            cause = f"is {tall}x{wide}, less than the crop of {size_words((height, width))}"
            raise UsageError(str(path), cause, "give --resize too, or take it out of the folder")
        top, left = round((tall - height) / 2), round((wide - width) / 2)
        return image.crop((left, top, left + width, top + height))

    def _call(self, path: File, image: Image.Image) -> Array:
        """What the user's function makes, an array or a tensor."""
        assert callable(self.asked.function)
        place = f"--preprocess {name_of(self.asked.function)}"
        try:
            made = self.asked.function(image)
            sample = np.asarray(made.detach().cpu() if hasattr(made, "detach") else made)
        except (Exception, SystemExit) as error:  # the user's code can raise anything
            raise UsageError(
                place, f"failed on {path} ({words_of(error)})", "call it with a PIL.Image to see"
            ) from error
        if not is_of(sample.shape, self.shape) or sample.dtype.kind not in "fiub":
            made, wanted = size_words_of(sample.shape), size_words_of(self.shape)
            cause = f"made {sample.dtype} {made} of {path}, and a sample is {wanted}"
            raise UsageError(place, cause, "return what the model reads, without the batch")
        return sample


def steps_for(asked: Preprocess, shape: Sequence[Side], dtype: str, place: str) -> Steps:
    """The steps for the images of one input.

    Args:
        shape: of one sample, without the batch. Where height or width is open, an image keeps its own, or gets what is
            next to it, unless a size is asked for; of a short side the crop's share means nothing then.
        dtype: of the input, "float32".
        place: what errors name.

    Raises:
        UsageError: images can't become such samples, or not in this way.
        MissingComponent: Pillow is not installed.
    """
    asked = asked.loaded()
    _require_pillow()
    layout, count = _layout(asked, tuple(shape), place)
    channels = asked.channels or ("grey" if count == 1 else "rgb")
    if _COUNTS[channels] != count:
        cause = f"is {_words(_COUNTS[channels])}, and the model reads {_words(count)}"
        raise UsageError(f"--channels {channels}", cause, f"give {'grey' if count == 1 else 'rgb or bgr'}")
    if asked.function is not None:
        return Steps(tuple(shape), layout, channels, None, None, "", np.zeros(0), asked)
    for option, numbers in (("--mean", asked.mean), ("--std", asked.std)):
        if len(numbers) not in (1, count):
            place_ = f"{option} {','.join(f'{number:g}' for number in numbers)}"
            raise UsageError(place_, f"is {len(numbers)} numbers, and the model reads {_words(count)}", "give as many")
    resize, crop = choose_sizes(asked, (shape[1], shape[2]) if layout == "NCHW" else (shape[0], shape[1]))
    keeps_ratio = isinstance(resize, int) or resize is None
    interpolation = asked.interpolation or ("bilinear" if keeps_ratio else "bicubic")
    return Steps(tuple(shape), layout, channels, resize, crop, interpolation, _table(asked, count, dtype), asked)


def _layout(asked: Preprocess, shape: tuple[Side, ...], place: str) -> tuple[str, int]:
    """Where the channels lie, and how many they are."""
    words = size_words_of(shape)
    if len(shape) != 3 or not all(shape):
        raise UsageError(place, f"holds images, and the model reads {words}", "save the samples as .npy")
    ends = {"NCHW": shape[0], "NHWC": shape[2]}
    known = {layout: count for layout, count in ends.items() if not isinstance(count, FreeSide)}
    fitting = [layout for layout, count in known.items() if count in (1, 3)]
    if asked.layout is not None and asked.layout not in fitting:
        cause = f"means {ends[asked.layout]} channels of a model that reads {words}, and images have 3 or 1"
        raise UsageError(f"--layout {asked.layout}", cause, f"give {fitting[0]}" if fitting else "save samples as .npy")
    if not fitting:
        cause = f"holds images, which have 3 channels or 1, and the model reads {words}"
        raise UsageError(place, cause, "save the samples as .npy")
    layout = asked.layout or fitting[0]
    return layout, known[layout]


def _table(asked: Preprocess, count: int, dtype: str) -> Array:
    """(count, 256): the value of every pixel, in float64, then in the input's type.

    Raises:
        UsageError: the input is of whole numbers, and they are none of it.
    """
    mean, std = (np.broadcast_to(np.asarray(numbers, np.float64), (count,)) for numbers in (asked.mean, asked.std))
    with np.errstate(over="ignore"):
        values = (np.arange(256) * np.float64(asked.scale) - mean[:, None]) / std[:, None]
    if dtype.startswith(("float", "bfloat")):
        with np.errstate(over="ignore"):
            single: Array = values.astype(np.float32)
        if not np.isfinite(single).all():
            raise UsageError(
                "--std", "is so small that values become infinite", "give what the network was trained with"
            )
        return single
    whole = np.rint(values).astype(np.int64)
    kind = np.iinfo(dtype) if dtype != "bool" else None
    if kind is None or np.abs(values - whole).max() > 0 or whole.min() < kind.min or whole.max() > kind.max:
        cause = f"become {values.min():.4g} to {values.max():.4g}, and the model reads {dtype}"
        raise UsageError("pixels", cause, "give --scale 1 for what reads pixels as they are")
    typed: Array = whole.astype(dtype)
    return typed


def _formula(asked: Preprocess) -> str:
    """ "(pixel * 1/255 - mean) / std" with the numbers."""
    words = "pixel" if asked.scale == 1 else f"pixel * {scale_words(asked.scale)}"
    if any(asked.mean):
        words = f"({words} - {_numbers(asked.mean)})"
    return words if asked.std == (1.0,) else f"{words} / {_numbers(asked.std)}"


def _range_words(table: Array) -> str:
    return f"values {float(table.min()):.4g} to {float(table.max()):.4g}"


def _numbers(numbers: Sequence[float]) -> str:
    words = ", ".join(f"{number:g}" for number in numbers)
    return words if len(numbers) == 1 else f"[{words}]"


def _words(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401  (asks whether it is there)
    except ImportError as error:
        raise MissingComponent("PIL", "is not installed", "run: pip install pillow") from error
