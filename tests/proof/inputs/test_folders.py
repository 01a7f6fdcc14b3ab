"""Folders as data: which samples, in which order, of which class; what is read of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import BatchRange, InputSpec, OpenAxis
from normexport.precision.labels import labels_in
from normexport.proof.inputs import data as whole
from normexport.proof.inputs.data import load_data, shapes_in
from normexport.proof.inputs.folders import FolderSamples, folder_for, open_folder
from tests.narrow import present

SPEC = InputSpec("input", (3, 4, 5))


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)


def as_read(seed: int) -> np.ndarray:
    sample: np.ndarray = (pixels(seed).transpose(2, 0, 1) / 255).astype(np.float32)
    return sample


def test_classes_are_counted_in_the_order_of_their_names_as_text_and_read_in_turn(tmp_path: Path) -> None:
    for seed, name in enumerate(["2/b.png", "10/z.png", "10/a.PNG", "10/deep/er/c.jpg", "b/x.webp", "B/x.bmp"]):
        write(tmp_path / name, seed)
    (tmp_path / "10" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    folder = open_folder(tmp_path)
    assert folder.classes == ("10", "2", "B", "b")
    read = [str(file.relative_to(tmp_path)) for file in folder.files]
    assert read == ["10/a.PNG", "2/b.png", "B/x.bmp", "b/x.webp", "10/z.png", "10/deep/er/c.jpg"]
    assert folder.labels == (0, 1, 2, 3, 0, 0)
    np.testing.assert_array_equal(present(labels_in(tmp_path)), folder.labels)
    arrays = load_data(tmp_path, [SPEC])["input"]
    np.testing.assert_array_equal(arrays[4], as_read(1))
    np.testing.assert_array_equal(arrays[1], as_read(0))


def test_images_and_arrays_lie_side_by_side_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "b.png", 0)
    np.save(tmp_path / "a.npy", as_read(1))
    np.testing.assert_array_equal(load_data(tmp_path, [SPEC])["input"], [as_read(1), as_read(0)])
    assert shapes_in(tmp_path, ["input"]) == {"input": (2, 3, 4, 5)}
    assert labels_in(tmp_path) is None


def test_labels_lie_beside_samples_in_a_file_of_their_own(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"{seed}.png", seed)
    np.save(tmp_path / "labels.npy", np.array([0.5, 1.5, 2.5]))
    assert len(load_data(tmp_path, [SPEC])["input"]) == 3
    np.testing.assert_array_equal(present(labels_in(tmp_path)), [0.5, 1.5, 2.5])


@pytest.mark.parametrize(("batch", "runs"), [(1, 5), (2, 2), (5, 1)])
def test_a_fixed_batch_gets_as_many_images_at_a_time_and_the_rest_is_left_over(
    batch: int, runs: int, tmp_path: Path
) -> None:
    for seed in range(5):
        write(tmp_path / f"{seed}.png", seed)
    spec = InputSpec("input", (batch, 3, 4, 5), batched=False)
    samples = folder_for(tmp_path, [spec])
    assert samples.count() == runs
    assert [feeds["input"].shape[0] for feeds in samples.batches(64)] == [batch] * runs
    arrays = load_data(tmp_path, [spec])["input"]
    np.testing.assert_array_equal(arrays, [as_read(seed) for seed in range(batch * runs)])


def test_a_fixed_batch_takes_arrays_of_a_whole_batch_as_before(tmp_path: Path) -> None:
    spec = InputSpec("input", (2, 3), batched=False)
    for seed in range(3):
        np.save(tmp_path / f"{seed}.npy", np.full((2, 3), seed, np.float32))
    assert [feeds["input"][0, 0] for feeds in folder_for(tmp_path, [spec]).batches(8)] == [0, 1, 2]
    assert load_data(tmp_path, [spec])["input"].shape == (6, 3)


def test_too_few_images_for_a_fixed_batch_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0)
    with pytest.raises(UsageError, match="holds 1 images, and the model reads 4 at a time"):
        folder_for(tmp_path, [InputSpec("input", (4, 3, 4, 5), batched=False)]).count()


def test_what_is_no_data_is_one_clear_line(tmp_path: Path) -> None:
    def refused(folder: Path, words: str, specs: tuple[InputSpec, ...] = (SPEC,)) -> None:
        with pytest.raises(UsageError, match=words) as raised:
            load_data(folder, specs)
        assert len(str(raised.value).splitlines()) == 1

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no .npy files and no images")
    write(tmp_path / "classes" / "cat" / "a.png", 0)
    (tmp_path / "classes" / "dog").mkdir()
    refused(tmp_path / "classes", "classes/dog: holds no images and no .npy files; fill it")
    write(tmp_path / "mixed" / "cat" / "a.png", 0)
    write(tmp_path / "mixed" / "b.png", 0)
    refused(tmp_path / "mixed", r"holds samples \(b.png\) beside folders of samples \(cat\)")
    write(tmp_path / "broken" / "a.png", 0)
    (tmp_path / "broken" / "b.png").write_bytes(b"none")
    refused(tmp_path / "broken", "broken/b.png: is not an image that can be read")
    with pytest.raises(UsageError, match=r"broken/b\.png: is not an image"):
        open_folder(tmp_path / "broken").check_images()
    refused(tmp_path / "broken", "reads 2 inputs", (SPEC, InputSpec("other", (3,))))
    refused(tmp_path / "broken", "has its samples along axis 1", (InputSpec("input", (3, 4, 5), axes=(1,)),))
    np.save(tmp_path / "mixed" / "c.npy", as_read(0))


def test_samples_of_open_sizes_keep_their_own_and_a_batch_holds_one_size(tmp_path: Path) -> None:
    spec = InputSpec("input", (3, 8), open=(OpenAxis(1, "L", BatchRange(4, 64)),))
    lengths = [8, 9, 9, 8, 8]
    for index, length in enumerate(lengths):
        np.save(tmp_path / f"{index}.npy", np.full((3, length), index, np.float32))
    rows = load_data(tmp_path, [spec])["input"]
    assert [row.shape for row in rows] == [(3, length) for length in lengths]
    assert [row[0, 0] for row in rows] == [0, 1, 2, 3, 4]
    batches = [feeds["input"] for feeds in folder_for(tmp_path, [spec]).batches(8)]
    assert [each.shape for each in batches] == [(1, 3, 8), (2, 3, 9), (2, 3, 8)]
    assert shapes_in(tmp_path, ["input"]) == {}


def test_one_sample_at_a_time_may_be_of_several_sizes_and_more_are_refused(tmp_path: Path) -> None:
    for index, length in enumerate([8, 9]):
        np.save(tmp_path / f"{index}.npy", np.full((3, length), index, np.float32))
    free = (OpenAxis(2, "L", BatchRange(4, 64)),)
    alone = InputSpec("input", (1, 3, 8), batched=False, open=free)
    assert [row.shape for row in load_data(tmp_path, [alone])["input"]] == [(3, 8), (3, 9)]
    at_least_two = InputSpec("input", (3, 8), batch=BatchRange(2), open=(replace(free[0], axis=1),))
    for spec in (InputSpec("input", (2, 3, 8), batched=False, open=free), at_least_two):
        with pytest.raises(UsageError, match=r"shapes \(3, 8\) and \(3, 9\), and the model reads 2 at a time"):
            load_data(tmp_path, [spec])


def test_several_sizes_count_what_they_take_in_memory_all_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = InputSpec("input", (3, 8), open=(OpenAxis(1, "L"),))
    np.save(tmp_path / "a.npy", np.zeros((3, 1), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((3, 99), np.float32))
    monkeypatch.setattr(whole, "available_memory", lambda: 2 * 1200 - 1)
    with pytest.raises(UsageError, match=r"holds 2 samples, .* GB in memory"):
        load_data(tmp_path, [spec])
    monkeypatch.setattr(whole, "available_memory", lambda: 2 * 1200)
    assert len(load_data(tmp_path, [spec])["input"]) == 2


def test_a_function_that_gives_nan_is_told_with_its_image(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0)
    prepared = Preprocess(function=lambda image: np.full((3, 4, 5), np.nan))
    with pytest.raises(UsageError, match=r"a\.png: array input: holds NaN"):
        load_data(tmp_path, [SPEC], prepared)


def test_more_than_the_memory_holds_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        write(tmp_path / f"{seed}.png", seed)
    monkeypatch.setattr(whole, "available_memory", lambda: 2 * 4 * 240 - 1)
    with pytest.raises(UsageError, match=r"holds 4 samples, .* GB in memory"):
        load_data(tmp_path, [SPEC])
    monkeypatch.setattr(whole, "available_memory", lambda: 2 * 4 * 240)
    assert len(load_data(tmp_path, [SPEC])["input"]) == 4


def test_the_report_says_what_was_done_and_that_nobody_asked_for_it(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "a.png", 0)
    write(tmp_path / "dog" / "b.png", 1)
    read = folder_for(tmp_path, [SPEC]).read()
    assert read.classes == ("cat", "dog")
    assert "nothing says how the images of" in read.note
    assert "pixel * 1/255, values 0 to 1, NCHW" in read.words
    assert read.as_dict()["images"]["scale"] == 1 / 255
    assert folder_for(tmp_path, [SPEC], Preprocess.of("unit")).read().note == ""


def test_arrays_alone_are_prepared_by_nobody(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(7, np.float32))
    samples = FolderSamples(open_folder(tmp_path), InputSpec("input", (7,)))
    assert (samples.read().images, samples.read().note) == (None, "")
