"""Natural photographs that packages ship, in two halves: crops of the one calibrate, crops of the other judge."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]

#: Wheels that hold photographs, and where in them; drawings, text and test patterns are left out.
WHEELS = {
    "foolbox-3.3.4": "foolbox/data/imagenet_*.jpg",
    "imgaug-0.4.0": "imgaug/quokka.jpg",
    "scikit_image-0.26.0": "skimage/data/*",
}
_COLOURS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "retina", "rocket")
_SCIKIT_IMAGE = (*_COLOURS, "brick", "camera", "coins", "grass", "gravel", "moon")
_SMALLEST, _LARGEST = 0.25, 1.0  # a crop's side, as a share of the photograph's shorter one


def read_photographs(wheels: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """Those to calibrate on and those to judge on, every second one each; 20 of them are of ImageNet.

    Raises:
        FileNotFoundError: a wheel is not there.
    """
    found = list(_all(wheels))
    return found[::2], found[1::2]


def _all(wheels: Path) -> Iterator[Image.Image]:
    from sklearn.datasets import load_sample_images

    for stem, pattern in WHEELS.items():
        path = next(wheels.glob(f"{stem}-*.whl"), None)
        if path is None:
            raise FileNotFoundError(
                f"{wheels} has no wheel of {stem}: pip download --no-deps {stem.replace('-', '==')}"
            )
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                kept = "skimage" not in pattern or Path(name).stem in _SCIKIT_IMAGE
                if Path(name).match(pattern) and kept:
                    yield Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    for pixels in load_sample_images().images:
        yield Image.fromarray(pixels)


def cut(photographs: list[Image.Image], count: int, size: tuple[int, int], seed: int) -> Pixels:
    """(count, height, width, 3): random crops of each photograph in turn, half of them mirrored; the first is whole.

    Args:
        size: height and width.
    """
    dice = np.random.default_rng(seed)
    return np.stack([_crop(photographs[number % len(photographs)], size, number < len(photographs), dice)
                     for number in range(count)])  # fmt: skip


def _crop(photograph: Image.Image, size: tuple[int, int], whole: bool, dice: np.random.Generator) -> Pixels:
    height, width = size
    largest = min(photograph.width / width, photograph.height / height)
    share = largest * (_LARGEST if whole else dice.uniform(_SMALLEST, _LARGEST))
    sides = max(1, round(width * share)), max(1, round(height * share))
    room = photograph.width - sides[0], photograph.height - sides[1]
    left, top = (most // 2 if whole else int(dice.integers(0, most + 1)) for most in room)
    box = (left, top, left + sides[0], top + sides[1])
    pixels = np.asarray(photograph.resize((width, height), Image.Resampling.BICUBIC, box), np.uint8)
    return pixels[:, ::-1] if not whole and dice.random() < 0.5 else pixels


def write_on(pixels: Pixels, seed: int, lines: int) -> Pixels:
    """The same with lines of random letters and digits on them, as signs and scans have."""
    dice = np.random.default_rng(seed)
    signs = np.array(list("ABCDEFGHJKLMNPRSTUVWXYZabcdefghkmnprstuvwxyz0123456789 "))
    written = []
    for each in pixels:
        image = Image.fromarray(each)
        pen = ImageDraw.Draw(image)
        height = image.height // (lines + 1) if lines > 1 else image.height * 0.7
        for line in range(lines):
            words = "".join(dice.choice(signs, int(dice.integers(6, 13))))
            font = ImageFont.load_default(size=height * float(dice.uniform(0.6, 1.0)))
            colour = tuple(int(part) for part in dice.integers(0, 256, 3))
            place = int(dice.integers(0, image.width // 6)), round(height * (line * 1.1 + 0.1))
            pen.text(place, words, fill=colour, font=font)
        written.append(np.asarray(image))
    return np.stack(written)
