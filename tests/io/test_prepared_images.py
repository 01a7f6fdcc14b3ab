"""Images become the samples that a network was trained on, seen by arithmetic of another kind: torch and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from normexport.errors import UsageError
from normexport.io.image_sizes import FreeSide, Side
from normexport.io.prepared_images import steps_for
from normexport.io.preprocess import PRESETS, Preprocess

RNG = np.random.default_rng(0)
#: (height, width, 3), smooth and rough; away from 0 and 255, where Pillow cuts bicubic overshoot off after each axis.
PHOTO = np.clip(
    np.linspace(60, 190, 90 * 131 * 3).reshape(90, 131, 3)[:, ::-1] + RNG.normal(0, 20, (90, 131, 3)), 40, 215
).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def resized(height: int, width: int, mode: str = "bilinear") -> np.ndarray:
    """(height, width, 3) by torch, which antialiases floats where Pillow does whole numbers."""
    image = torch.from_numpy(PHOTO.astype(np.float64)).permute(2, 0, 1)[None]
    made = F.interpolate(image, (height, width), mode=mode, align_corners=False, antialias=True)
    return np.clip(made[0].permute(1, 2, 0).numpy(), 0, 255)


@pytest.mark.parametrize(
    ("name", "short", "mode", "size"),
    [
        ("imagenet", 64, "bilinear", 56),
        ("timm", 64, "bicubic", 56),
        ("imagenet-inception", 36, "bicubic", 32),
        ("clip", 56, "bicubic", 56),
    ],
)
def test_short_side_centre_and_normalisation_are_those_of_torchvision(
    name: str, short: int, mode: str, size: int, photo: Path
) -> None:
    wide = int(short * 131 / 90)
    top, left = round((short - size) / 2), round((wide - size) / 2)
    pixels = resized(short, wide, mode)[top : top + size, left : left + size]
    mean, std = (np.broadcast_to(numbers, 3) for numbers in (PRESETS[name].mean, PRESETS[name].std))
    steps = steps_for(PRESETS[name], (3, size, size), "float32", "x")
    found = steps.read(photo)
    assert found.shape == (3, size, size)
    assert found.dtype == np.float32
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
    assert np.abs((found - expected) * (255 * std)[:, None, None]).max() <= 1.01  # a grey level


def test_a_tall_image_keeps_its_ratio_too(tmp_path: Path) -> None:
    Image.fromarray(PHOTO.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    steps = steps_for(Preprocess(resize=64, crop=56), (3, 56, 56), "float32", "x")
    expected = resized(64, 93)[4:60, round(37 / 2) : round(37 / 2) + 56].transpose(2, 1, 0)
    assert np.abs(steps.read(tmp_path / "tall.png") * 255 - expected).max() <= 1.01


@pytest.mark.parametrize(
    ("asked", "shape", "expected"),
    [
        (Preprocess(), (3, 90, 131), PHOTO.transpose(2, 0, 1) / 255),
        (Preprocess(scale=1.0), (90, 131, 3), PHOTO * 1.0),
        (Preprocess(layout="NHWC"), (90, 131, 3), PHOTO / 255),
        (Preprocess.of("caffe-bgr"), (90, 131, 3), PHOTO[:, :, ::-1] - [103.939, 116.779, 123.68]),
        (Preprocess.of("caffe-bgr"), (3, 90, 131), (PHOTO[:, :, ::-1] - [103.939, 116.779, 123.68]).transpose(2, 0, 1)),
        (Preprocess.of("keras-tf"), (90, 131, 3), PHOTO / 127.5 - 1),
        (
            Preprocess.of("paddleocr"),
            (3, 90, 131),
            ((PHOTO[:, :, ::-1] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1),
        ),
        (Preprocess(crop=(80, 100)), (3, 80, 100), PHOTO[5:85, 16:116].transpose(2, 0, 1) / 255),  # 15.5 is even at 16
        (Preprocess(mean=(0.1, 0.2, 0.3)), (3, 90, 131), (PHOTO / 255 - [0.1, 0.2, 0.3]).transpose(2, 0, 1)),
    ],
)
def test_pixels_become_what_the_formula_says(
    asked: Preprocess, shape: tuple[int, int, int], expected: np.ndarray, photo: Path
) -> None:
    np.testing.assert_allclose(steps_for(asked, shape, "float32", "x").read(photo), expected, rtol=1e-6, atol=1e-6)


def test_unsaid_images_stay_what_they_were_to_the_last_bit(photo: Path) -> None:
    before = (PHOTO.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)
    np.testing.assert_array_equal(steps_for(Preprocess(), (3, 90, 131), "float32", "x").read(photo), before)
    small = np.asarray(Image.fromarray(PHOTO).resize((20, 30))).astype(np.float32) / np.float32(255)
    found = steps_for(Preprocess(), (3, 30, 20), "float32", "x").read(photo)
    np.testing.assert_array_equal(found, small.transpose(2, 0, 1))


def test_grey_is_one_channel_and_weighs_the_colours(photo: Path) -> None:
    grey = PHOTO @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    found = steps_for(Preprocess.of("mnist"), (1, 90, 131), "float32", "x").read(photo)
    assert np.abs(found[0] * 0.3081 + 0.1307 - grey / 255).max() <= 1.01 / 255


@pytest.mark.parametrize(("dtype", "mean"), [("uint8", 0.0), ("int32", 0.0), ("int8", 128.0)])
def test_inputs_of_whole_numbers_get_pixels_as_they_are(dtype: str, mean: float, photo: Path) -> None:
    found = steps_for(Preprocess(mean=(mean,), scale=1.0), (90, 131, 3), dtype, "x").read(photo)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(int), PHOTO.astype(int) - int(mean))


@pytest.mark.parametrize(
    ("asked", "shape", "dtype", "words"),
    [
        (Preprocess(), (3, 8, 8), "uint8", "pixels: become 0 to 1, and the model reads uint8; give --scale 1"),
        (Preprocess(scale=1.0), (3, 8, 8), "int8", "become 0 to 255, and the model reads int8"),
        (Preprocess(scale=1.0), (3, 8, 8), "bool", "and the model reads bool"),
        (Preprocess(), (4, 8, 8), "float32", "x: holds images, which have 3 channels or 1, and the model reads 4x8x8"),
        (Preprocess(), (128,), "float32", "x: holds images, and the model reads 128; save the samples as .npy"),
        (Preprocess(), (), "float32", "and the model reads scalar"),
        (Preprocess(), (3, 0, 8), "float32", "and the model reads 3x0x8"),
        (
            Preprocess(layout="NHWC"),
            (3, 8, 8),
            "float32",
            "--layout NHWC: means 8 channels of a model that reads 3x8x8",
        ),
        (
            Preprocess(channels="rgb"),
            (1, 8, 8),
            "float32",
            "--channels rgb: is 3 channels, and the model reads 1 channel",
        ),
        (Preprocess(channels="grey"), (3, 8, 8), "float32", "--channels grey: is 1 channel, and the model reads 3"),
        (
            Preprocess(std=(0.1, 0.2, 0.3)),
            (1, 8, 8),
            "float32",
            "--std 0.1,0.2,0.3: is 3 numbers, and the model reads 1",
        ),
        (Preprocess(crop=224), (3, 256, 256), "float32", "--crop 224: is not what the model reads, 256x256"),
        (Preprocess(resize=(224, 224)), (3, 256, 256), "float32", "--resize 224x224: is not what the model reads"),
        (Preprocess(std=(1e-320,)), (3, 8, 8), "float32", "--std: is so small that values become infinite"),
        (Preprocess(std=(1e-39,)), (3, 8, 8), "float16", "--std: is so small that values become infinite"),
        (Preprocess(resize=100), (3, 224, 224), "float32", "--resize 100: is a short side of less than what the model"),
    ],
)
def test_what_the_model_does_not_read_is_told_before_an_image_is_opened(
    asked: Preprocess, shape: tuple[int, ...], dtype: str, words: str
) -> None:
    with pytest.raises(UsageError) as raised:
        steps_for(asked, shape, dtype, "x")
    assert words in str(raised.value)


def test_an_image_that_is_smaller_than_the_crop_is_named(photo: Path) -> None:
    for asked, shape in ((Preprocess(crop=100), (3, 100, 100)), (Preprocess(resize=90, crop=(90, 200)), (3, 90, 200))):
        with pytest.raises(UsageError, match=r"photo\.png: is 90x131, less than the crop of"):
            steps_for(asked, shape, "float32", "x").read(photo)


def test_a_function_gets_the_image_and_gives_the_sample(photo: Path) -> None:
    def prepare(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).astype(np.float32)).permute(2, 0, 1).requires_grad_()

    steps = steps_for(Preprocess(function=prepare), (3, 90, 131), "float32", "x")
    np.testing.assert_array_equal(steps.read(photo), PHOTO.transpose(2, 0, 1))
    assert "prepare" in ", ".join(steps.words())
    assert str(steps.as_dict()["function"]).endswith("prepare")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda _: np.zeros((1, 3, 8, 8)), "made float64 1x3x8x8 of .*, and a sample is 3x8x8"),
        (lambda _: "text", "made <U4 scalar"),
        (lambda _: None, "made object scalar"),
        (lambda image: image.nothing, r"failed on .*photo\.png \(AttributeError"),
        (lambda _: exit("bye"), r"failed on .*photo\.png \(SystemExit: bye"),
    ],
)
def test_a_function_that_fails_is_told_with_the_image(made: Any, words: str, photo: Path) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        steps_for(Preprocess(function=made), (3, 8, 8), "float32", "x").read(photo)
    assert len(str(raised.value).splitlines()) == 1


def test_the_report_has_every_choice_that_was_made(photo: Path) -> None:
    steps = steps_for(Preprocess.of("imagenet"), (3, 56, 56), "float32", "x")
    assert ", ".join(steps.words()) == (
        "preset imagenet, short side 64 (bilinear), centre 56x56, RGB, "
        "(pixel * 1/255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], values -2.118 to 2.64, NCHW"
    )
    known = steps.as_dict()
    assert (known["resize"], known["crop"], known["interpolation"], known["layout"]) == (
        64,
        (56, 56),
        "bilinear",
        "NCHW",
    )


ANY_HEIGHT, ANY_WIDTH = FreeSide("H", lambda length: length), FreeSide("W", lambda length: length)
BY_8 = FreeSide("H", lambda length: 8 * round(length / 8))


@pytest.mark.parametrize(
    ("asked", "size", "expected"),
    [
        (Preprocess(), (ANY_HEIGHT, ANY_WIDTH), PHOTO),
        (Preprocess(), (BY_8, BY_8), resized(88, 128)),
        (Preprocess(), (64, ANY_WIDTH), resized(64, 131)),
        (Preprocess(crop_share=0.5), (ANY_HEIGHT, ANY_WIDTH), PHOTO),
        (Preprocess(resize=45), (ANY_HEIGHT, ANY_WIDTH), resized(45, 65)),
        (Preprocess(resize=45), (40, ANY_WIDTH), resized(45, 65)[2:42]),
        (Preprocess(resize=(30, 20), interpolation="bilinear"), (ANY_HEIGHT, 20), resized(30, 20)),
        (Preprocess(crop=(56, 40)), (BY_8, BY_8), PHOTO[17:73, 46:86]),
        (Preprocess(resize=45, crop=40), (ANY_HEIGHT, ANY_WIDTH), resized(45, 65)[2:42, 12:52]),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_open_sizes_are_those_of_the_image_unless_one_is_asked_for(
    asked: Preprocess, size: tuple[Side, Side], expected: np.ndarray, layout: str, photo: Path
) -> None:
    shape = (3, *size) if layout == "NCHW" else (*size, 3)
    found = steps_for(asked, shape, "float32", "x").read(photo) * 255
    found = found.transpose(1, 2, 0) if layout == "NCHW" else found
    np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize(
    ("asked", "shape", "words"),
    [
        (Preprocess(crop=50), (3, BY_8, BY_8), "--crop 50: is not what the model reads, HxH; H can be 48"),
        (Preprocess(resize=(48, 50)), (3, BY_8, ANY_WIDTH), ""),
        (Preprocess(resize=(50, 48)), (3, BY_8, ANY_WIDTH), "--resize 50x48: is not what the model reads, HxW"),
        (Preprocess(resize=(48, 48)), (3, 64, ANY_WIDTH), "--resize 48x48: is not what the model reads"),
        (Preprocess(), (FreeSide("C", lambda length: length), 8, 8), "the model reads Cx8x8"),
        (Preprocess(), (FreeSide("C", lambda length: length), 8, 3), ""),
    ],
)
def test_open_sizes_that_the_model_does_not_take_are_told_before_an_image_is_opened(
    asked: Preprocess, shape: tuple[Side, ...], words: str
) -> None:
    if not words:
        steps_for(asked, shape, "float32", "x")
        return
    with pytest.raises(UsageError) as raised:
        steps_for(asked, shape, "float32", "x")
    assert words in str(raised.value)


def test_the_report_says_that_images_keep_their_size() -> None:
    words = steps_for(Preprocess(), (3, ANY_HEIGHT, ANY_WIDTH), "float32", "x").words()
    assert "HxW, where open the image's own or next to it (bilinear)" in words
    cropped = steps_for(Preprocess(crop=8), (3, ANY_HEIGHT, ANY_WIDTH), "float32", "x").words()
    assert "centre 8x8" in cropped


def test_a_function_says_the_open_sizes_itself(photo: Path) -> None:
    steps = steps_for(Preprocess(function=lambda image: np.zeros((3, 5, 7))), (3, ANY_HEIGHT, 7), "float32", "x")
    assert steps.read(photo).shape == (3, 5, 7)
    steps = steps_for(Preprocess(function=lambda image: np.zeros((3, 5, 8))), (3, ANY_HEIGHT, 7), "float32", "x")
    with pytest.raises(UsageError, match=r"made float64 3x5x8 of .*, and a sample is 3xHx7"):
        steps.read(photo)
