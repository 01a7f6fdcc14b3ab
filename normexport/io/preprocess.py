"""What is done to images before a network reads them: one frozen value, and the conventions that have a name.

This module loads nothing heavy: the command line takes its choices and defaults from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from normexport.errors import UsageError
from normexport.user_code import load_function, name_of

LAYOUTS = ("NCHW", "NHWC")
CHANNELS = ("rgb", "bgr", "grey")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box")
UNIT = 1 / 255
_PIXEL = 255
_ROUNDING = 1e-9

#: One number: of both sides, or of the short one; two: height and width.
Size: TypeAlias = int | tuple[int, int]


@dataclass(frozen=True)
class Preprocess:
    """How the images of a folder become samples: value = (pixel * scale - mean) / std, pixels being 0 to 255.

    The default, of which every report says that nobody asked for it, is values in [0, 1] at the model's size.

    Attributes:
        mean, std: a number for each channel, in the order of `channels`, or one for all; in what `scale` made.
        scale: at most 1.
        layout: "NCHW" or "NHWC"; None: what the model's shape says.
        resize: the short side, or (height, width); None: the model's size, or what `crop_share` says.
        crop: (height, width) or both in one, from the centre of the resized image; None: the model's size.
        channels: "rgb", "bgr" or "grey"; None: rgb for a model of 3 channels, grey for one of 1.
        interpolation: one of `INTERPOLATIONS`, with antialiasing; None: bilinear where the ratio of the sides is kept
            (torchvision's), else bicubic.
        crop_share: the crop's share of the short side, which is resized to floor(crop / crop_share): timm's crop_pct.
        function: takes a PIL.Image, returns a sample: itself, or "package.module:function", which is imported. Nothing
            but `channels` goes with it.
        preset: the name of what these are, for reports.

    Raises:
        UsageError: a word that is none, numbers that contradict each other.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = UNIT
    layout: str | None = None
    resize: Size | None = None
    crop: Size | None = None
    channels: str | None = None
    interpolation: str | None = None
    crop_share: float | None = None
    function: str | Callable[[Any], Any] | None = None
    preset: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists too
        _check_word("--layout", self.layout, LAYOUTS)
        _check_word("--channels", self.channels, CHANNELS)
        _check_word("--interpolation", self.interpolation, INTERPOLATIONS)
        if not 0 < self.scale <= 1:
            raise UsageError(f"--scale {self.scale:g}", "is no factor for pixels of 0 to 255", "give 1/255, or 1")
        if self.crop_share is not None and not 0 < self.crop_share <= 1:
            raise UsageError(f"crop_share {self.crop_share:g}", "is no share", "give more than 0 and at most 1")
        _check_numbers(self)
        _check_sizes(self)
        if self.function is not None and replace(self, function=None, channels=None) != Preprocess(preset=self.preset):
            place = f"--preprocess {name_of(self.function)}"
            raise UsageError(place, "takes the place of the other steps", "leave them out, all but --channels")

    @classmethod
    def of(cls, preset: str, **changes: Any) -> Preprocess:
        """A convention by its name (`PRESETS`), with some of its steps changed.

        Raises:
            UsageError: no such name.
        """
        if preset not in PRESETS:
            raise UsageError(f"--preset {preset}", "is not a preset", f"choose one of {', '.join(PRESETS)}")
        if changes.get("resize") is not None:
            changes = {"crop_share": None, **changes}
        return replace(PRESETS[preset], **changes)

    @property
    def asked_for(self) -> bool:
        """Whether anything was said."""
        return self != UNSAID

    @property
    def first_option(self) -> str:
        """The option that says the first of it, for errors; "" where nothing was said."""
        if self.preset:
            return f"--preset {self.preset}"
        if self.function is not None:
            return f"--preprocess {name_of(self.function)}"
        said = (name for name, value in vars(self).items() if value != getattr(UNSAID, name))
        return next((f"--{name}" for name in said), "")

    def loaded(self) -> Preprocess:
        """With the function itself, where its name was given; naming it is consent to import it.

        Raises:
            UsageError: it can't be imported, or called.
        """
        if not isinstance(self.function, str):
            return self
        return replace(self, function=load_function(self.function, "--preprocess", "data.images:prepare"))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = None if self.function is None else name_of(self.function)
        return {**asdict(replace(self, function=None)), "function": named}


def height_width(size: Size) -> tuple[int, int]:
    """Both sides."""
    return size if isinstance(size, tuple) else (size, size)


def size_words(size: Size) -> str:
    """ "224x224"."""
    return "x".join(map(str, height_width(size)))


def said_size(size: Size) -> str:
    """As it was asked for: "224", or "224x320"."""
    return str(size) if isinstance(size, int) else size_words(size)


def _check_word(option: str, given: str | None, known: tuple[str, ...]) -> None:
    if given is not None and given not in known:
        raise UsageError(
            f"{option} {given}", "is none of the choices", f"choose {', '.join(known[:-1])} or {known[-1]}"
        )


def _check_numbers(asked: Preprocess) -> None:
    most = _PIXEL * asked.scale
    for option, numbers in (("--mean", asked.mean), ("--std", asked.std)):
        place = f"{option} {','.join(f'{number:g}' for number in numbers)}"
        if len(numbers) not in (1, 3):
            raise UsageError(place, f"is {len(numbers)} numbers", "give one for each channel, or one for all")
        if len(numbers) == 3 and asked.channels == "grey":
            raise UsageError(place, "is 3 numbers, and grey images have 1 channel", "give one number")
        if not all(map(math.isfinite, numbers)):
            raise UsageError(place, "is not finite", "give numbers")
        if numbers != (1.0,) and any(number < 0 or number > most * (1 + _ROUNDING) for number in numbers):
            cause = f"lies outside the pixels, which are 0 to {most:g} when multiplied by {scale_words(asked.scale)}"
            raise UsageError(place, cause, "give numbers in that unit, or another --scale")
    if 0 in asked.std:
        place = f"--std {','.join(f'{number:g}' for number in asked.std)}"
        raise UsageError(place, "is 0, and pixels are divided by it", "give what the network was trained with")


def scale_words(scale: float) -> str:
    """ "1/255" where it is one by a number that is simpler."""
    by = 1 / scale
    return f"1/{round(by, 6):g}" if scale < 1 and len(f"{round(by, 6):g}") < 7 else f"{scale:g}"


def _check_sizes(asked: Preprocess) -> None:
    for option, size in (("--resize", asked.resize), ("--crop", asked.crop)):
        if size is not None and min(height_width(size)) < 1:
            raise UsageError(f"{option} {said_size(size)}", "is not a size", "give pixels, such as 224")
    if asked.resize is None or asked.crop is None:
        return
    tall, wide = height_width(asked.crop)
    most = height_width(asked.resize)
    fits = tall <= most[0] and wide <= most[1] if isinstance(asked.resize, tuple) else min(tall, wide) <= asked.resize
    if not fits:
        kept = size_words(asked.resize) if isinstance(asked.resize, tuple) else f"a short side of {asked.resize}"
        raise UsageError(f"--crop {said_size(asked.crop)}", f"is larger than {kept} (--resize)", "resize to more")


#: What is done where nobody says anything.
UNSAID = Preprocess()

_IMAGENET = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), channels="rgb", crop_share=0.875)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

#: Conventions by name; `PRESET_SOURCES` says whose they are.
PRESETS: dict[str, Preprocess] = {
    "unit": Preprocess(),
    "imagenet": replace(_IMAGENET, interpolation="bilinear"),
    "timm": replace(_IMAGENET, interpolation="bicubic"),
    "imagenet-inception": replace(_IMAGENET, mean=(0.5,), std=(0.5,), interpolation="bicubic"),
    "clip": replace(_IMAGENET, mean=_CLIP[0], std=_CLIP[1], interpolation="bicubic", crop_share=1.0),
    "caffe-bgr": Preprocess((103.939, 116.779, 123.68), scale=1.0, channels="bgr", interpolation="bilinear"),
    "keras-tf": Preprocess((1.0,), scale=1 / 127.5, channels="rgb", interpolation="bilinear"),
    "keras-torch": replace(_IMAGENET, interpolation="bilinear", crop_share=None),
    "paddleocr": replace(_IMAGENET, channels="bgr", interpolation="bilinear", crop_share=None),
    "mnist": Preprocess((0.1307,), (0.3081,), channels="grey"),
}
PRESETS = {name: replace(preset, preset=name) for name, preset in PRESETS.items()}

PRESET_SOURCES = {
    "unit": "values in [0, 1] at the model's size",
    "imagenet": "torchvision.transforms._presets.ImageClassification: short side 256, centre 224",
    "timm": "timm.data: IMAGENET_DEFAULT_MEAN and _STD, DEFAULT_CROP_PCT 0.875, bicubic",
    "imagenet-inception": "timm.data: IMAGENET_INCEPTION_MEAN and _STD, values in [-1, 1]; EfficientNet-Lite, ViT",
    "clip": "timm.data: OPENAI_CLIP_MEAN and _STD, the whole short side, bicubic",
    "caffe-bgr": "keras.applications, mode 'caffe': BGR of 0 to 255 less the mean; ResNet50, VGG",
    "keras-tf": "keras.applications, mode 'tf': values in [-1, 1]; MobileNet, InceptionV3",
    "keras-torch": "keras.applications, mode 'torch': ImageNet's mean and deviation; DenseNet",
    "paddleocr": "PaddleOCR, text detection: DecodeImage BGR, NormalizeImage 1/255 with ImageNet's mean and deviation",
    "mnist": "pytorch/examples, mnist: mean 0.1307, deviation 0.3081",
}
