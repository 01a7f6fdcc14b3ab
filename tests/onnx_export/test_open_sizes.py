"""Sizes that a file leaves open: one name is one size, the batch is found by its name or its place."""

from __future__ import annotations

import pytest

from normexport.errors import UsageError
from normexport.onnx_export import BatchRange, Declared, InputSpec, Open, close_sizes, narrow


def declared(name: str, *sizes: int | str, dtype: str = "float32") -> Declared:
    return Declared(name, tuple(Open(size) if isinstance(size, str) else size for size in sizes), dtype)


@pytest.mark.parametrize(
    ("sizes", "shape", "axes"),
    [
        (("batch", 3), (3,), (0,)),
        (("anything", 3), (3,), (0,)),
        ((6, "batch_size", 3), (6, 3), (1,)),
        ((6, "N", 3), (6, 3), (1,)),
        (("n", "n"), (), (0, 1)),
        ((4, 3), (4, 3), None),
        ((), (), None),
    ],
)
def test_the_batch_is_what_is_named_so_or_open_and_first(
    sizes: tuple[int | str, ...], shape: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    (spec,) = close_sizes([declared("x", *sizes)])
    assert (spec.shape, spec.batched) == (shape, axes is not None)
    assert axes is None or spec.axes == axes
    assert spec.sized(5) == tuple(5 if isinstance(size, str) else size for size in sizes)


@pytest.mark.parametrize(
    ("inputs", "batches"),
    [
        ([("batch_size", "N"), ("batch_size",)], [(0,), (0,)]),  # samples of sound, and how many there are
        ([("b", "n", 3)], [(0,)]),  # points
        ([("n", "batch", 3)], [(1,)]),
        ([("batch", "n", 3), ("n", 2)], [(0,), None]),  # points, and what is the same for all
        ([("n", 2), ("batch", "n", 3)], [None, (0,)]),
        ([("batch", 3), ("n", 4)], [(0,), (0,)]),
        ([("n", "k"), ("k", 3)], [(0,), None]),
    ],
)
def test_of_several_names_one_is_the_batch(
    inputs: list[tuple[int | str, ...]], batches: list[tuple[int, ...] | None]
) -> None:
    each = [declared(f"x{number}", *sizes) for number, sizes in enumerate(inputs)]
    lengths = {"n": 5, "N": 5, "k": 7}
    shapes = {
        one.name: tuple(lengths.get(str(size), size) if isinstance(size, str) else size for size in sizes)
        for one, sizes in zip(each, inputs, strict=True)
    }
    found = close_sizes(each, (), {name: tuple(map(int_or_two, shape)) for name, shape in shapes.items()})
    assert [spec.axes if spec.batched else None for spec in found] == batches


def int_or_two(size: int | str) -> int:
    return size if isinstance(size, int) else 2


def test_a_size_given_for_one_input_is_known_of_all_that_share_its_name() -> None:
    specs = close_sizes([declared("ids", "batch", "seq"), declared("mask", "batch", "seq")], [InputSpec("mask", (7,))])
    assert [spec.shape for spec in specs] == [(7,), (7,)]


def test_a_batch_fixed_on_one_input_is_fixed_on_all() -> None:
    specs = close_sizes([declared("a", "n1", 3), declared("b", "n2", 4)], [InputSpec("a", (2, 3), batched=False)])
    assert [(spec.shape, spec.batched) for spec in specs] == [((2, 3), False), ((2, 4), False)]


def test_shapes_of_arrays_say_what_the_user_does_not_and_never_the_batch() -> None:
    each = [declared("x", "batch", "w", 3)]
    (spec,) = close_sizes(each, (), {"x": (20, 6, 3)})
    assert (spec.shape, spec.batched) == ((6, 3), True)
    assert close_sizes(each, [InputSpec("x", (5, 3))], {"x": (20, 6, 3)})[0].shape == (5, 3)
    with pytest.raises(UsageError, match=r"has open sizes \(batch, w, 3\)"):
        close_sizes(each, (), {"x": (20, 3)})


def test_settling_what_is_settled_changes_nothing() -> None:
    each = [declared("x", 6, "b", 3), declared("h", 1, "b", 4), declared("q", "n", "n")]
    specs = close_sizes(each)
    assert close_sizes(each, specs) == specs


def test_sizes_that_contradict_the_file_or_one_another_are_refused() -> None:
    each = [declared("a", "batch", "s"), declared("b", "batch", "s")]
    with pytest.raises(UsageError, match="--input b=7: does not fit the model, which reads b=Nxs"):
        close_sizes(each, [InputSpec("a", (6,)), InputSpec("b", (7,))])
    with pytest.raises(UsageError, match="is given as int64, and the model reads float32"):
        close_sizes(each, [InputSpec("a", (6,), "int64")])
    with pytest.raises(UsageError, match="3 are given without names, and the model reads a, b"):
        close_sizes(each, [InputSpec(f"input_{i}", (6,)) for i in range(3)])


def test_a_size_that_is_twice_another_is_held_to_it() -> None:
    twice = Declared("x", (Open("k", BatchRange(1, 4, 2)), 3), "float32")
    once = Declared("y", (Open("k", BatchRange(1, 4)), 3), "float32")
    x, y = close_sizes([twice, once])
    assert (x.sized(3), y.sized(3)) == ((6, 3), (3, 3))
    assert (x.batch_of((6, 3)), x.batch_of((5, 3)), x.batch_of((10, 3))) == (3, None, None)
    fixed = close_sizes([twice, once], [InputSpec("x", (6, 3), batched=False)])
    assert [spec.shape for spec in fixed] == [(6, 3), (3, 3)]
    with pytest.raises(UsageError, match=r"axis 0 is 5, and the model takes 2\*k where k is 1 to 4"):
        close_sizes([twice, once], [InputSpec("x", (5, 3), batched=False)])


def test_two_models_agree_on_what_both_take() -> None:
    first = close_sizes([declared("x", "n", 3)])
    assert narrow(first, [Declared("other", (4, 3), "float16")]) == (InputSpec("x", (4, 3), batched=False),)
    (spec,) = narrow(first, [Declared("other", (Open("s0", BatchRange(2, 9)), 3), "float32")])
    assert (spec.name, spec.batch) == ("x", BatchRange(2, 9))
    with pytest.raises(UsageError, match="does not fit the model"):
        narrow(first, [declared("x", "n", 5)])
