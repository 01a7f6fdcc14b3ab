"""What is asked of images: conventions by name, and requests that can't be meant, refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import UsageError
from normexport.io.preprocess import PRESET_SOURCES, PRESETS, Preprocess, scale_words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"std": (0.229, 0, 0.225)}, "--std 0.229,0,0.225: is 0, and pixels are divided by it"),
        ({"std": (-1.0,)}, "--std -1: lies outside the pixels"),
        ({"std": (float("nan"),)}, "--std nan: is not finite"),
        ({"mean": (float("inf"),)}, "--mean inf: is not finite"),
        ({"mean": ()}, "is 0 numbers"),
        ({"mean": (0.5, 0.5)}, "--mean 0.5,0.5: is 2 numbers; give one for each channel"),
        ({"mean": (0.1, 0.2, 0.3), "channels": "grey"}, "is 3 numbers, and grey images have 1 channel"),
        ({"mean": (123.68, 116.78, 103.94)}, "lies outside the pixels, which are 0 to 1 when multiplied by 1/255"),
        ({"std": (58.4, 57.1, 57.4)}, "--std 58.4,57.1,57.4: lies outside the pixels"),
        ({"scale": 0.0}, "--scale 0: is no factor"),
        ({"scale": 255.0}, "--scale 255: is no factor"),
        ({"scale": float("nan")}, "--scale nan: is no factor"),
        ({"layout": "CHW"}, "--layout CHW: is none of the choices; choose NCHW or NHWC"),
        ({"channels": "RGB"}, "--channels RGB: is none of the choices; choose rgb, bgr or grey"),
        ({"interpolation": "area"}, "--interpolation area: is none of the choices"),
        ({"crop": 0}, "--crop 0: is not a size"),
        ({"resize": (256, -1)}, "--resize 256x-1: is not a size"),
        ({"resize": 200, "crop": 224}, "--crop 224: is larger than a short side of 200"),
        ({"resize": (224, 200), "crop": 224}, "--crop 224: is larger than 224x200"),
        ({"crop_share": 1.5}, "crop_share 1.5: is no share"),
        ({"function": "a:b", "mean": (0.5,)}, "--preprocess a:b: takes the place of the other steps"),
    ],
)
def test_what_can_not_be_meant_is_refused_in_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        Preprocess(**given)
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_what_stands_at_the_edge_is_taken() -> None:
    Preprocess((1.0,), (1.0,), scale=1 / 127.5)
    Preprocess((0.0,), (255.0,), scale=1.0)
    Preprocess((255.0,), (1.0,), scale=1.0)
    Preprocess(scale=1 / 300)
    Preprocess(resize=224, crop=(224, 600))  # of a wide image
    assert Preprocess([0.5], [0.5]) == Preprocess((0.5,), (0.5,))  # type: ignore[arg-type]  # as JSON would have it


def test_every_preset_says_whose_convention_it_is_and_is_what_these_publish() -> None:
    assert set(PRESETS) == set(PRESET_SOURCES)
    imagenet = PRESETS["imagenet"]
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert PRESETS["timm"] == replace(imagenet, interpolation="bicubic", preset="timm")
    assert (PRESETS["caffe-bgr"].channels, PRESETS["caffe-bgr"].scale) == ("bgr", 1.0)
    assert PRESETS["caffe-bgr"].mean == (103.939, 116.779, 123.68)
    assert PRESETS["paddleocr"].channels == "bgr"
    assert all(preset.preset == name and preset.asked_for for name, preset in PRESETS.items())


def test_a_preset_is_changed_step_by_step_and_its_crop_share_yields_to_a_size() -> None:
    newer = Preprocess.of("imagenet", resize=232)
    assert (newer.resize, newer.crop_share, newer.mean) == (232, None, PRESETS["imagenet"].mean)
    assert Preprocess.of("imagenet", crop=224).crop_share == 0.875
    with pytest.raises(UsageError, match="--preset imagnet: is not a preset; choose one of unit, imagenet, timm"):
        Preprocess.of("imagnet")


def test_nothing_said_is_told_from_the_same_said() -> None:
    assert not Preprocess().asked_for
    assert Preprocess.of("unit").asked_for


def test_a_factor_is_written_as_people_write_it() -> None:
    assert [scale_words(scale) for scale in (1 / 255, 1 / 127.5, 1.0, 0.003)] == ["1/255", "1/127.5", "1", "0.003"]


def test_a_function_is_imported_from_the_working_folder_and_named_in_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_of_images.py").write_text("SIZE = 3\ndef prepare(image):\n    return image\n")
    monkeypatch.chdir(tmp_path)
    asked = Preprocess(function="mine_of_images:prepare")
    loaded = asked.loaded()
    assert callable(loaded.function)
    assert loaded.as_dict()["function"] == asked.as_dict()["function"] == "mine_of_images:prepare"
    for name, words in {
        "mine_of_images:SIZE": "is a int, which can't be called; name a function",
        "mine_of_images:other": "has no attribute 'other'",
        "mine_of_images": "is not of the form package.module:function; e.g. --preprocess data.images:prepare",
        "mine_of_images.py:prepare": "names a file, not a module",
        "not_there_at_all:prepare": "can't be imported",
    }.items():
        with pytest.raises(UsageError, match=f"--preprocess {name}: .*{words}"):
            Preprocess(function=name).loaded()
