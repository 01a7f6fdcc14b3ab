"""Inputs: deterministic, of the right types and ranges, real ones checked against what the model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.onnx_export import BatchRange, InputSpec
from normexport.proof import load_arrays, standard_batches
from normexport.proof.inputs.batches import batch_sizes, slice_batches

IMAGE = (InputSpec("image", (1, 28, 28)),)
MIXED = (
    InputSpec("x", (3,)),
    InputSpec("i", (4,), "int64"),
    InputSpec("b", (), "bool"),
    InputSpec("h", (2,), "float16"),
    InputSpec("fixed", (2, 2), batched=False),
)


def test_the_same_seed_gives_the_same_inputs_and_another_seed_others() -> None:
    first, again, other = (standard_batches(MIXED, seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert all(np.array_equal(a.feeds[name], b.feeds[name]) for name in a.feeds)
        assert not np.array_equal(a.feeds["x"], c.feeds["x"])


def test_sizes_scales_and_types_are_as_asked() -> None:
    batches = standard_batches(MIXED, ranges={"i": [(0, 999)]})
    assert [batch.size for batch in batches] == [1, 2, 7]
    assert len({batch.name for batch in batches}) == 3
    for batch in batches:
        shapes = {name: array.shape for name, array in batch.feeds.items()}
        n = batch.size
        assert shapes == {"x": (n, 3), "i": (n, 4), "b": (n,), "h": (n, 2), "fixed": (2, 2)}
        assert batch.feeds["i"].dtype == np.int64
        assert batch.feeds["b"].dtype == bool
    indices = np.concatenate([batch.feeds["i"].ravel() for batch in batches])
    assert indices.min() >= 0
    assert 100 < indices.max() < 1000
    wide = standard_batches((InputSpec("x", (1000,)),), sizes=(1, 1, 1))
    assert [batch.feeds["x"].std() for batch in wide] == pytest.approx([1.0, 0.1, 4.0], rel=0.1)


def test_each_range_of_whole_numbers_is_in_a_batch_with_both_its_ends() -> None:
    spec = InputSpec("i", (5,), "int64")
    batches = standard_batches((spec,), ranges={"i": [(0, 1), (-7, 9), (0, 2**40), (-(2**63), 2**63 - 1)]})
    ends = [(int(batch.feeds["i"].min()), int(batch.feeds["i"].max())) for batch in batches]
    assert ends == [(0, 1), (-7, 9), (0, 2**40), (-(2**63), 2**63 - 1)]
    assert [batch.level for batch in batches] == [0, 1, 2, 3]


def test_bounds_that_the_user_gives_are_those_of_the_numbers() -> None:
    specs = (InputSpec("i", (50,), "uint8", bounds=(3, 5)), InputSpec("x", (500,), bounds=(0.0, 0.25)))
    for batch in standard_batches(specs):
        assert set(np.unique(batch.feeds["i"])) == {3, 4, 5}
        assert batch.feeds["i"].dtype == np.uint8
        assert 0 <= batch.feeds["x"].min() < 0.05
        assert 0.2 < batch.feeds["x"].max() <= 0.25


def test_random_floats_are_not_float32_numbers() -> None:
    """Each stands for all values that round to it: the reference gets one of them, both sides the rounding."""
    batch, *_ = standard_batches((InputSpec("x", (100,)),), sizes=(1,))
    assert np.all(batch.feeds["x"] != batch.feeds["x"].astype(np.float32))


@pytest.mark.parametrize("values", [[1.0, 2.0, 0.5, 1024.0], [0.1, -3.7, 1e-30, 1e30], [0.0, -0.0, 255.0, 1 / 3]])
def test_real_inputs_round_back_to_themselves(values: list[float]) -> None:
    data = np.array([values] * 50, dtype=np.float32)
    batch = standard_batches((InputSpec("x", (4,)),), {"x": data}, sizes=(1,))[0]
    assert batch.name == "real, batch 16"
    np.testing.assert_array_equal(batch.feeds["x"].astype(np.float32), data[:16])
    moved = batch.feeds["x"] != data[:16]
    np.testing.assert_array_equal(moved.any(axis=0), data[0] != 0)


def test_large_inputs_get_fewer_samples_and_fixed_batches_only_theirs() -> None:
    assert [b.size for b in standard_batches((InputSpec("x", (3, 224, 224)),))] == [1, 2]
    fixed = standard_batches((InputSpec("x", (4, 3), batched=False),), sizes=(9,))
    assert all(batch.feeds["x"].shape == (4, 3) for batch in fixed)
    assert all("fixed" in batch.name for batch in fixed)


def test_a_fixed_batch_of_large_inputs_is_judged_twice_with_other_numbers() -> None:
    first, second = standard_batches((InputSpec("x", (1, 3, 224, 224), batched=False),))
    assert not np.array_equal(first.feeds["x"], second.feeds["x"])


@pytest.mark.parametrize(
    ("taken", "sizes"),
    [
        (BatchRange(), (1, 2, 7)),
        (BatchRange(1, 4), (1, 2, 3)),
        (BatchRange(4, 64), (4, 5, 7)),
        (BatchRange(8), (8, 9, 11)),
        (BatchRange(7, 9), (7, 8, 9)),
        (BatchRange(5, 6), (5, 6)),
        (BatchRange(3, 3), (3,)),
    ],
    ids=str,
)
def test_batch_sizes_lie_in_the_range_that_the_model_takes(taken: BatchRange, sizes: tuple[int, ...]) -> None:
    found = batch_sizes((InputSpec("x", (3,), batch=taken), InputSpec("y", ())))
    assert found == sizes
    assert all(taken.holds(size) for size in found)


def test_batch_sizes_that_the_model_does_not_take_are_refused() -> None:
    specs = (InputSpec("x", (3,), batch=BatchRange(4, 64)),)
    assert batch_sizes(specs, (4, 64)) == (4, 64)
    with pytest.raises(UsageError, match="batch size 65: the model takes 4 to 64"):
        batch_sizes(specs, (4, 65))
    with pytest.raises(UsageError, match="no batch size in common"):
        batch_sizes((*specs, InputSpec("y", (), batch=BatchRange(1, 3))))


def test_samples_are_taken_along_each_inputs_own_batch_axis() -> None:
    specs = (
        InputSpec("x", (3,)),
        InputSpec("h", (2, 4), axes=(1,)),
        InputSpec("two", (), batch=BatchRange(multiple=2)),
        InputSpec("w", (5,), batched=False),
    )
    data = {
        "x": np.arange(5)[:, None] * np.ones((5, 3)),
        "h": np.arange(5)[None, :, None] * np.ones((2, 5, 4)),
        "two": np.repeat(np.arange(5.0), 2),
        "w": np.ones(5),
    }
    parts = list(slice_batches(specs, data, 2))
    assert [part["x"].shape for part in parts] == [(2, 3), (2, 3), (1, 3)]
    for start, part in zip((0, 2, 4), parts, strict=True):
        samples = np.arange(start, min(start + 2, 5))
        assert np.unique(part["x"]).tolist() == samples.tolist()
        assert np.unique(part["h"]).tolist() == samples.tolist()
        assert part["two"].tolist() == np.repeat(samples, 2).tolist()
        assert part["w"].shape == (5,)


def test_a_model_of_a_fixed_batch_is_fed_the_samples_batch_by_batch(tmp_path: Path) -> None:
    spec = InputSpec("x", (4, 3), batched=False)
    np.savez(tmp_path / "x.npz", x=np.arange(24.0).reshape(8, 3))
    parts = list(slice_batches([spec], load_arrays(tmp_path / "x.npz", [spec]), 64))
    assert [part["x"].tolist() for part in parts] == np.arange(24.0).reshape(2, 4, 3).tolist()
    np.savez(tmp_path / "x.npz", x=np.ones((9, 3)))
    with pytest.raises(UsageError, match=r"has shape \(9, 3\), expected \(4, 3\)"):
        load_arrays(tmp_path / "x.npz", [spec])


def test_fewer_samples_than_the_model_takes_at_once_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)))
    with pytest.raises(UsageError, match="hold 3 samples, and the model takes 4 at least"):
        load_arrays(tmp_path / "x.npz", [InputSpec("x", (2,), batch=BatchRange(4, 64))])


def test_npz_arrays_are_matched_by_name(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, a=np.zeros((5, 2), np.float32), b=np.zeros((5, 3), np.int32))
    arrays = load_arrays(path, (InputSpec("b", (3,), "int64"), InputSpec("a", (2,))))
    assert arrays["a"].shape == (5, 2)
    assert arrays["b"].dtype == np.int64


def test_a_single_array_serves_a_single_input_whatever_its_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.ones((3, 1, 28, 28), np.uint8))
    np.save(tmp_path / "x.npy", np.ones((3, 1, 28, 28)))
    assert load_arrays(tmp_path / "x.npz", IMAGE)["image"].dtype == np.float32
    assert load_arrays(tmp_path / "x.npy", IMAGE)["image"].shape == (3, 1, 28, 28)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((5, 28, 28))}, r"image: has shape \(5, 28, 28\), expected \(N, 1, 28, 28\)"),
        ({"image": np.zeros((0, 1, 28, 28))}, r"has shape \(0, 1, 28, 28\)"),
        ({"image": np.zeros(())}, r"has shape \(\), expected"),
        ({"a": np.zeros(3), "b": np.zeros(3)}, r"holds no array image \(it holds a, b\); save image in it"),
        ({"image": np.array([[[["text"] * 28] * 28]])}, "has dtype <U4, expected float32"),
    ],
    ids=["shape", "empty", "scalar", "names", "text"],
)
def test_unfitting_arrays_say_what_was_expected(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match=message):
        load_arrays(path, IMAGE)


def test_inputs_with_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, a=np.zeros((5, 2)), b=np.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"its arrays hold \[4, 5\] samples"):
        load_arrays(path, (InputSpec("a", (2,)), InputSpec("b", (2,))))


def test_pickles_and_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", image=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    for name in ("objects.npz", "text.npz", "cut.npz"):
        with pytest.raises(UsageError, match="is not a numpy file of plain arrays"):
            load_arrays(tmp_path / name, IMAGE)
    with pytest.raises(UsageError, match="can't be read"):
        load_arrays(tmp_path / "missing.npz", IMAGE)


def test_real_inputs_with_nan_are_refused_by_sample(tmp_path: Path) -> None:
    images = np.zeros((4, 3), np.float32)
    images[2, 1] = np.nan
    np.savez(tmp_path / "data.npz", x=images)
    with pytest.raises(UsageError, match="array x: holds NaN, first in sample 2"):
        load_arrays(tmp_path / "data.npz", [InputSpec("x", (3,))])


@pytest.mark.parametrize("shape", [(), (3,), (2, 300, 700)])
def test_the_first_sample_with_nan_is_named_wherever_it_is(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.zeros((9, *shape), np.float16)
    values.reshape(9, -1)[[5, 7], -1] = np.nan
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(UsageError, match="first in sample 5;"):
        load_arrays(tmp_path / "x.npy", [InputSpec("x", shape)])


def test_numbers_that_no_runtime_takes_are_refused_by_their_type(tmp_path: Path) -> None:
    for dtype in (np.longdouble, np.complex64, "S3"):
        np.save(tmp_path / "x.npy", np.zeros((2, 3), dtype))
        with pytest.raises(UsageError, match=r"has dtype .*, expected float32"):
            load_arrays(tmp_path / "x.npy", [InputSpec("x", (3,))])


def test_numbers_of_the_other_byte_order_become_ones_of_this_machine(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(6, dtype=">f4").reshape(2, 3), i=np.arange(4, dtype=">i2").reshape(2, 2))
    found = load_arrays(tmp_path / "x.npz", [InputSpec("x", (3,)), InputSpec("i", (2,), "int64")])
    assert (found["x"].dtype, found["i"].dtype) == (np.dtype("f4"), np.dtype("i8"))
    np.testing.assert_array_equal(found["x"], [[0, 1, 2], [3, 4, 5]])


def test_other_arrays_of_the_file_may_be_anything(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3)), names=np.array([{"a": 1}], object))
    assert load_arrays(tmp_path / "x.npz", [InputSpec("x", (3,))])["x"].shape == (2, 3)


def test_a_single_sample_that_is_asked_for_is_tried_with_several_numbers() -> None:
    batches = standard_batches([InputSpec("x", (3,))], sizes=[1])
    assert [batch.name for batch in batches] == [f"random x{scale}, batch 1" for scale in ("1", "0.1", "4")]
    assert len({batch.feeds["x"].tobytes() for batch in batches}) == 3
    assert [batch.size for batch in standard_batches([InputSpec("x", (3,))], sizes=[2])] == [2]
