"""Whatever form data has, its samples are the same, by number and in order, with their labels."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.io.data_sources import Kind, source_at
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision.labels import labels_in
from normexport.precision.numbered import numbered, samples_by_number
from normexport.precision.samples import batches_of
from normexport.proof.inputs.by_number import samples_at
from normexport.proof.inputs.data import load_data
from tests.proof.inputs import stored
from tests.proof.inputs.stored import FORMS, TABLES, Form

pytestmark = pytest.mark.slow

SPECS = (InputSpec("input", (3, 12, 12)),)
LACKS_ARROW = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed: pip install 'normexport[parquet]'"
)
EVERY = [*FORMS, *(pytest.param(form, marks=LACKS_ARROW) for form in TABLES)]


@pytest.mark.parametrize("form", EVERY)
def test_every_form_gives_the_same_samples_and_labels(form: Form, tmp_path: Path) -> None:
    images, labels = stored.pictures(), stored.classes()
    path = form(tmp_path, images, labels)
    expected = stored.values(images)
    np.testing.assert_array_equal(load_data(path, SPECS)["input"], expected)
    found = labels_in(path)
    assert found is not None
    assert found.tolist() == labels
    assert found.dtype == np.int64
    streamed = [feeds["input"] for feeds in batches_of(path, SPECS, 3)()]
    assert [len(batch) for batch in streamed] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(streamed), expected)


@pytest.mark.parametrize("form", EVERY)
def test_samples_are_read_by_number_in_any_order_and_on_other_processes(form: Form, tmp_path: Path) -> None:
    images = stored.pictures()
    samples = samples_at(form(tmp_path, images, stored.classes()), SPECS)
    assert samples.count == len(images)
    expected = stored.values(images)
    there = pickle.loads(pickle.dumps(samples))
    for each in (samples, there):
        for number in (5, 0, 1, 6, 6, 2, 4):
            (feeds,) = each.read(number)
            np.testing.assert_array_equal(feeds["input"], expected[number : number + 1])
    assert there.identity() == samples.identity()
    assert len({samples.name(number) for number in range(samples.count)}) == samples.count


@pytest.mark.parametrize("form", EVERY)
def test_a_drawn_subset_has_the_same_samples_in_every_form(form: Form, tmp_path: Path) -> None:
    images = stored.pictures()
    path = form(tmp_path, images, stored.classes())
    drawn = numbered(samples_by_number(path, SPECS), 2, 4, seed=3)
    again = numbered(samples_by_number([*stored.values(images)], SPECS), 2, 4, seed=3)
    assert list(drawn.numbers) == list(again.numbers)
    for batch in range(drawn.batches):
        for mine, theirs in zip(drawn.read(batch), again.read(batch), strict=True):
            np.testing.assert_array_equal(mine["input"], theirs["input"])


def test_several_files_of_several_inputs_are_one_after_the_other(tmp_path: Path) -> None:
    specs = (InputSpec("a", (2,)), InputSpec("b", (), "int64"))
    a, b = np.random.default_rng(0).random((5, 2)).astype(np.float32), np.arange(5)
    np.savez(tmp_path / "0.npz", a=a[:2], b=b[:2])
    np.savez(tmp_path / "1.npz", a=a[2:], b=b[2:])
    found = load_data(tmp_path, specs)
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["b"], b)
    (feeds,) = samples_at(tmp_path, specs).read(3)
    assert feeds["b"].tolist() == [3]


@LACKS_ARROW
def test_a_table_feeds_several_inputs_by_their_names(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    rows = {"b": [4, 5, 6], "a": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "label": [0, 1, 0]}
    parquet.write_table(arrow.table(rows), tmp_path / "t.parquet")
    specs = (InputSpec("a", (2,)), InputSpec("b", (), "int64"))
    found = load_data(tmp_path / "t.parquet", specs)
    np.testing.assert_array_equal(found["a"], [[1, 2], [3, 4], [5, 6]])
    assert found["b"].tolist() == [4, 5, 6]


@LACKS_ARROW
def test_a_tensor_of_arrow_is_its_numbers_and_one_with_moved_axes_is_refused(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    moved = stored.values(stored.pictures(4))
    assert not moved.flags.c_contiguous
    for name, array in (("rows", np.ascontiguousarray(moved)), ("moved", moved)):
        column = arrow.FixedShapeTensorArray.from_numpy_ndarray(array)
        parquet.write_table(arrow.table({"input": column}), tmp_path / f"{name}.parquet")
    np.testing.assert_array_equal(load_data(tmp_path / "rows.parquet", SPECS)["input"], moved)
    _refused(tmp_path / "moved.parquet", "row 0, column input: is a tensor with its axes in another order")


@pytest.mark.parametrize("form", [stored.shards, pytest.param(stored.table_of_images, marks=LACKS_ARROW)])
def test_images_of_shards_and_tables_are_prepared_as_those_of_a_folder(form: Form, tmp_path: Path) -> None:
    images, labels = stored.pictures(3, (20, 31)), stored.classes(3)
    asked = Preprocess(mean=(0.4,), std=(0.2,), resize=16, crop=12)
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").mkdir()
    folder = stored.image_files(tmp_path / "folder", images, labels)
    found = load_data(form(tmp_path / "other", images, labels), SPECS, asked)
    np.testing.assert_array_equal(found["input"], load_data(folder, SPECS, asked)["input"])


def test_shards_are_known_by_their_content_and_other_files_too(tmp_path: Path) -> None:
    stored.shards_of_arrays(tmp_path, stored.pictures(), stored.classes())
    (tmp_path / "all.tar").rename(tmp_path / "data")
    assert source_at(tmp_path / "data").kind is Kind.SHARDS
    np.savez(tmp_path / "x.bin", input=np.zeros((1, 2)))
    (tmp_path / "x.bin.npz").rename(tmp_path / "x.bin")
    assert source_at(tmp_path / "x.bin").kind is Kind.ARRAYS


def test_a_folder_of_classes_stays_one_whatever_lies_beside_them(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(stored.png(stored.pictures(1)[0]))
    np.savez(tmp_path / "meta.npz", other=np.zeros(3))
    assert source_at(tmp_path).kind is Kind.SAMPLES
    assert load_data(tmp_path, SPECS)["input"].shape == (2, 3, 12, 12)


def test_a_name_that_looks_like_a_pattern_is_the_file_that_has_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a[1].npz", input=np.zeros((2, 3, 12, 12), np.float32))
    assert source_at(tmp_path / "a[1].npz").files == (tmp_path / "a[1].npz",)
    assert len(load_data(tmp_path / "a[1].npz", SPECS)["input"]) == 2


def _refused(path: Path | str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        load_data(path, SPECS)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_source_is_refused_in_one_line(tmp_path: Path) -> None:
    _refused(tmp_path / "none", "can't be read .No such file")
    _refused(str(tmp_path / "*.png"), "is a pattern that no file has")
    (tmp_path / "a.npz").touch()
    (tmp_path / "b.tar").touch()
    _refused(tmp_path, r"names files of several kinds \(a.npz, b.tar\)")
    _refused(str(tmp_path / "?.*"), "of several kinds")
    (tmp_path / "c.txt").touch()
    _refused(str(tmp_path / "*.txt"), "is no sample")


def test_files_of_which_some_alone_have_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", input=np.zeros((2, 3, 12, 12)), labels=[0, 1])
    np.savez(tmp_path / "1.npz", input=np.zeros((2, 3, 12, 12)))
    with pytest.raises(UsageError, match=r"1.npz: holds no array labels, and others beside it do"):
        labels_in(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_sample_of_nan_is_left_out_and_those_behind_it_are_read(save: object, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((9, 3, 12, 12)).astype(np.float32)
    bad = values.copy()
    bad[2], bad[7, 1, 1, 1] = np.nan, np.nan
    assert callable(save)
    save(tmp_path / "a.npz", input=bad)
    skipped: dict[int, str] = {}
    data = numbered(samples_at(tmp_path / "a.npz", SPECS), 3)
    found = [feeds["input"] for batch in range(data.batches) for feeds in data.read(batch, skipped)]
    np.testing.assert_array_equal(np.concatenate(found), np.delete(values, [2, 7], axis=0))
    assert list(skipped) == [2, 7]
    assert all(line.startswith(f"a.npz: sample {number}: ") for number, line in skipped.items())
