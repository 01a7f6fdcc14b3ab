"""Samples as streams, and every way calibration data can be wrong."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.int8.calibration import calibrate
from normexport.precision.samples import batches_of
from normexport.proof.inputs.npz_stream import slices_of
from tests.precision import nets
from tests.precision.nets import images

pytestmark = pytest.mark.slow


SPECS = (nets.SPEC,)


def test_a_folder_of_arrays_and_a_folder_of_images_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    arrays, pictures = tmp_path / "arrays", tmp_path / "pictures"
    arrays.mkdir()
    pictures.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        np.save(arrays / f"{number}.npy", (image / np.float32(255)).transpose(2, 0, 1))
        Image.fromarray(image).save(pictures / f"{number}.png")
    (pictures / "notes.txt").write_text("no image")
    for folder in (arrays, pictures):
        batches = list(batches_of(folder, SPECS, 2)())
        assert [len(feeds["input"]) for feeds in batches] == [2, 1]
        np.testing.assert_allclose(batches[1]["input"][0], pixels[2].transpose(2, 0, 1) / 255, rtol=1e-6)


def test_a_folder_is_read_one_batch_at_a_time(tmp_path: Path) -> None:
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", images(1)[0])
    stream = batches_of(tmp_path, SPECS, 1)()
    next(stream)
    (tmp_path / "3.npy").unlink()
    with pytest.raises(UsageError, match=r"3\.npy"):
        list(stream)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_number_of_samples(save: Callable[..., Any], tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    peaks = []
    for count in (1024, 4096):  # 1.8 and 7 MB; a megabyte is unpacked at a time
        save(tmp_path / "x.npz", input=np.tile(images(64), (count // 64, 1, 1, 1)), labels=np.zeros(count))
        batches = batches_of(tmp_path / "x.npz", SPECS, 8)
        assert batches.count == count
        tracemalloc.start()
        assert calibrate(model, batches(), "minmax").samples == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000


@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_are_the_arrays_of_the_file(order: Literal["C", "F"], tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    specs = (InputSpec("b", (3, 2)), InputSpec("a", (), "int64"), InputSpec("c", (2, 2), batched=False))
    a, b, c = rng.integers(0, 9, 5), np.asarray(rng.normal(size=(5, 3, 2)), order=order), rng.normal(size=(2, 2))
    np.savez_compressed(tmp_path / "x.npz", a=a, b=b, c=c)
    stream = list(slices_of(tmp_path / "x.npz", specs, 2))
    assert [len(feeds["a"]) for feeds in stream] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([feeds["a"] for feeds in stream]), a)
    np.testing.assert_array_equal(np.concatenate([feeds["b"] for feeds in stream]), b)
    np.testing.assert_array_equal(stream[1]["c"], c)
    np.save(tmp_path / "b.npy", b)
    (whole,) = slices_of(tmp_path / "b.npy", specs[:1], 9)
    np.testing.assert_array_equal(whole["b"], b)


def cut(path: Path) -> None:
    np.savez(path, input=images(20))
    path.write_bytes(path.read_bytes()[:-40])


def changed(path: Path) -> None:
    np.savez_compressed(path, input=images(20))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def shortened(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (5, 3, 12, 12)})
        file.write(images(3).tobytes())


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "can't be read"),
        (lambda path: path.write_bytes(b""), "not a numpy file"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "not a numpy file"),
        (cut, "not a numpy file"),
        (changed, "not a numpy file"),
        (shortened, "not a numpy file"),
        (lambda path: np.savez(path, input=np.full((2, 3, 12, 12), None)), "not a numpy file of plain arrays"),
        (lambda path: np.savez(path, input=images(0)), r"has shape \(0, 3, 12, 12\)"),
        (lambda path: np.savez(path, input=np.zeros((64, 12, 12))), r"has shape \(64, 12, 12\), expected \(N, 3"),
        (lambda path: np.savez(path, a=images(2), b=images(2)), r"holds no array input \(it holds a, b\)"),
        (
            lambda path: np.savez(path, input=np.append(images(12), [images(1)[0] * np.nan], 0)),
            "NaN, first in sample 12",
        ),
        (lambda path: np.savez(path, input=np.full((2, 3, 12, 12), "a")), "dtype <U1"),
    ],
)
def test_bad_files_are_one_clear_line(write: Callable[..., Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write(path)
    with pytest.raises(UsageError, match=words) as raised:
        list(batches_of(path, SPECS, 5)())
    assert len(str(raised.value).splitlines()) == 1


def spoiled(value: float) -> list[np.ndarray]:
    array = images()
    array[3, 1] = value
    return list(array)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([np.ones((3, 9, 9), np.float32)], "shape"),
        ([np.full(nets.SPEC.shape, "a")], "dtype"),
        (spoiled(np.nan), "NaN"),
        (spoiled(np.inf), "not finite"),
        ([], "no samples"),
        ([np.full(nets.SPEC.shape, 0.5, np.float32)] * 3, "0.5 throughout"),
        ([{"other": images(1)[0]}], "lacks input"),
    ],
)
def test_bad_calibration_data_is_one_clear_line(source: list[dict[str, np.ndarray] | np.ndarray], words: str) -> None:
    model, _ = nets.folded(nets.centred)
    with pytest.raises(UsageError, match=words) as raised:
        calibrate(model, batches_of(source, SPECS)(), "minmax")
    assert len(str(raised.value).splitlines()) == 1


def test_bad_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        batches_of(tmp_path, SPECS)
    (tmp_path / "a.png").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match=r"a\.png: is not an image"):
        list(batches_of(tmp_path, SPECS)())
    with pytest.raises(UsageError, match="reads 2 inputs"):
        batches_of(tmp_path, (*SPECS, InputSpec("other", (2,))))
    (tmp_path / "a.png").unlink()
    np.save(tmp_path / "b.npy", images(1))
    with pytest.raises(UsageError, match=r"b\.npy: array input: has shape \(1, 3, 12, 12\), expected \(3, 12, 12\)"):
        list(batches_of(tmp_path, SPECS)())
