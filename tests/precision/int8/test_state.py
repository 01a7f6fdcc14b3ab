"""States of calibration add up: any split, any order, the same bytes; and files that are no states are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import normexport
from normexport.errors import UsageError
from normexport.precision import METHODS
from normexport.precision.int8.calibration import calibrate, fingerprint
from normexport.precision.int8.gather import gather
from normexport.precision.int8.histogram import Histogram
from normexport.precision.int8.state import CalibrationState, merge
from normexport.precision.int8.state_files import read_state, require_state_of
from normexport.precision.numbered import Numbered, numbered, samples_by_number
from normexport.precision.samples import batches_of
from tests.precision import nets
from tests.proof.inputs import stored

pytestmark = pytest.mark.slow

SPECS = (nets.SPEC,)


def images(count: int = 20) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, *nets.SPEC.shape)).astype(np.float32))


def batched(samples: Any, batch: int = 3, most: int | None = None, seed: int = 0) -> Numbered:
    return numbered(samples_by_number(samples, SPECS), batch, most, seed)


def every(parts: int, first: int) -> Callable[[int], bool]:
    return lambda batch: batch % parts == first


def seen(arrays: list[np.ndarray]) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(array)
    return histogram


def facts(histogram: Histogram) -> tuple[Any, ...]:
    first, counts = histogram.counts()
    return repr(histogram.low), repr(histogram.high), histogram.width, first, counts.tolist()


FLOATS = hnp.arrays(
    np.float32,
    st.integers(1, 12),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-2, 2, width=32),
)


@settings(max_examples=300)
@given(arrays=st.lists(FLOATS, min_size=1, max_size=6), order=st.randoms(use_true_random=False))
def test_a_histogram_is_a_function_of_its_values_whoever_counted_them(
    arrays: list[np.ndarray], order: random.Random
) -> None:
    """Subnormal numbers, both zeros and the largest floats among them."""
    whole = facts(seen(arrays))
    parts = [seen([array]) for array in arrays]
    order.shuffle(parts)
    cut = order.randrange(len(parts) + 1)
    nothing = Histogram()
    left, right = (reduce(Histogram.merged, some, nothing) for some in (parts[:cut], parts[cut:]))
    assert facts(left.merged(right)) == whole
    assert facts(right.merged(left)) == whole
    # By the definition, in float64, where no float32 over a power of two underflows.
    width, values = whole[2], np.concatenate(arrays).astype(np.float64)
    numbers, counts = np.unique(np.floor(values / width), return_counts=True)
    assert whole[3] == numbers[0]
    assert [count for count in whole[4] if count] == counts.tolist()


@settings(max_examples=15)
@given(parts=st.integers(1, 7), order=st.randoms(use_true_random=False))
def test_states_of_any_parts_in_any_order_are_the_bytes_of_one_run(parts: int, order: random.Random) -> None:
    model, _ = nets.folded(nets.live)
    data = batched(images())
    whole = gather(model, data)
    some = [gather(model, data, only=every(parts, i)) for i in range(parts)]
    order.shuffle(some)
    while len(some) > 1:  # any tree of sums
        first = some.pop(order.randrange(len(some)))
        second = some.pop(order.randrange(len(some)))
        some.append(merge(first, second))
    assert some[0].text() == whole.text()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", [nets.centred, nets.live])
def test_ranges_of_a_state_are_those_of_a_calibration(method: str, net: Callable[[], Any]) -> None:
    model, _ = nets.folded(net)
    state = gather(model, batched(images(), 4))
    direct = calibrate(model, batches_of(images(), SPECS, 4)(), method)
    assert state.calibration(method).ranges == direct.ranges


def test_live_norms_see_the_same_batches_and_other_batches_are_another_state() -> None:
    model, _ = nets.folded(nets.live)
    first, again, other = (gather(model, batched(images(), size)) for size in (3, 3, 4))
    assert first.text() == again.text() != other.text()
    with pytest.raises(UsageError, match="4 samples at a time, and the other 3"):
        merge(first, other)


@settings(max_examples=50)
@given(total=st.integers(1, 300), most=st.integers(1, 300), seed=st.integers(0, 2**40))
def test_a_drawn_subset_follows_from_the_seed(total: int, most: int, seed: int) -> None:
    found = numbered(samples_by_number([0] * total, SPECS), 4, most, seed).numbers
    assert list(found) == sorted(set(found))
    assert len(found) == min(total, most)
    assert list(found) == list(numbered(samples_by_number([0] * total, SPECS), 8, most, seed).numbers)


def test_seeds_draw_different_samples() -> None:
    assert len({tuple(batched(images(), 4, 5, seed).numbers) for seed in range(8)}) > 4


def states() -> tuple[CalibrationState, CalibrationState]:
    model, _ = nets.folded(nets.centred)
    data = batched(images())
    first, second = (gather(model, data, only=every(2, i)) for i in range(2))
    return first, second


def test_the_same_batch_is_not_counted_twice() -> None:
    first, second = states()
    for twice in (first, merge(first, second)):
        with pytest.raises(UsageError, match="has seen batch 0, as the other has; give each part once"):
            merge(first, twice)


def test_what_rounds_otherwise_or_is_of_another_model_is_refused_by_name() -> None:
    first, second = states()
    for field, value, words in (
        ("computed_by", "ONNX Runtime 0.1, x86_64", "computed by ONNX Runtime 0.1"),
        ("model", "0" * 64, "is of model 000000000000"),
    ):
        other = CalibrationState(**{**vars(second), field: value})
        with pytest.raises(UsageError, match=words):
            merge(first, other)


def test_a_state_of_some_batches_is_not_taken_for_all_and_is_gone_on_with(tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    data = batched(images())
    whole, path = gather(model, data), tmp_path / "state.json"
    gather(model, data, only=lambda batch: batch in (0, 4)).save(path)
    with pytest.raises(UsageError, match="has seen 2 of 7 batches"):
        read_state(path).calibration("mse")
    assert gather(model, data, begun=read_state(path)).text() == whole.text()
    with pytest.raises(UsageError, match="has seen other samples than these"):
        gather(model, batched(images(), 3, 10), begun=read_state(path))


def test_a_state_of_another_model_is_refused_by_its_digest(tmp_path: Path) -> None:
    first, _ = states()
    other, _ = nets.folded(nets.growing)
    with pytest.raises(UsageError, match=rf"another model \({first.model[:12]}; this one is {fingerprint(other)[:12]}"):
        require_state_of(tmp_path / "x.json", first, other)


def test_a_state_is_one_of_its_model_where_relus_alone_read_a_tensor_and_lacks_no_other(tmp_path: Path) -> None:
    """What a ReLU alone reads is not looked at: it takes the range of its result."""
    channels = nets.SPEC.shape[0]
    model, _ = nets.folded(lambda: nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval())
    state = gather(model, batched(images()))
    require_state_of(tmp_path / "x.json", state, model)
    made = {value.name for node in model.graph for value in node.outputs}
    (unseen,) = made - set(state.tensors)
    assert model.graph.node(0).outputs[0].name == unseen
    for name in state.tensors:
        short = replace(state, tensors={key: value for key, value in state.tensors.items() if key != name})
        with pytest.raises(UsageError, match=f"lacks the numbers of tensor {name}"):
            require_state_of(tmp_path / "x.json", short, model)


class Poisoned(list[Any]):
    """Samples of which the sixth is cut short."""

    def __getitem__(self, number: Any) -> Any:
        return np.zeros((1, 2)) if number == 5 else super().__getitem__(number)


def test_samples_that_can_not_be_read_are_skipped_only_where_allowed_and_listed() -> None:
    model, _ = nets.folded(nets.centred)
    with pytest.raises(UsageError, match=r"\(1, 2\)"):
        gather(model, batched(Poisoned(images())))
    state = gather(model, batched(Poisoned(images())), skip_bad=1)
    assert [line.partition(":")[0] for line in state.skipped] == ["sample 5"]
    assert len(state.samples) == 19
    with pytest.raises(UsageError, match="more than 1 samples that can't be read: sample 0: "):
        gather(model, batched([np.zeros((2, 2)), *images(3), np.zeros(3)][::-1]), skip_bad=1)


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    state = merge(*states())
    state.save(tmp_path / "a.json")
    assert read_state(tmp_path / "a.json").text() == state.text()
    assert not state.text().startswith("{}")


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda fields: fields.update(format=99),
    "another kind": lambda fields: fields.update(kind="ranges"),
    "an unknown field": lambda fields: fields.update(extra=1),
    "no model": lambda fields: fields.pop("model"),
    "a digest that is none": lambda fields: fields.update(samples="xyz"),
    "samples out of order": lambda fields: fields.update(samples="f" * 32 + "0" * 32),
    "spans that overlap": lambda fields: [each.update(spans=[[0, 2], [1, 3]]) for each in fields["seen"].values()],
    "spans beyond the end": lambda fields: [each.update(spans=[[0, 10**9]]) for each in fields["seen"].values()],
    "a negative count": lambda fields: fields["tensors"]["input"].update(counts="1 -1"),
    "counts of words": lambda fields: fields["tensors"]["input"].update(counts="one"),
    "too many bins": lambda fields: fields["tensors"]["input"].update(counts=" ".join(["1"] * 5000)),
    "bins elsewhere": lambda fields: fields["tensors"]["input"].update(first=10**9),
    "a bin that is a fraction": lambda fields: fields["tensors"]["input"].update(first=0.5),
    "no lowest number": lambda fields: fields["tensors"]["input"].pop("low"),
    "ends the wrong way round": lambda fields: fields["tensors"]["input"].update(low=5.0, high=-5.0),
    "an end that is no float32": lambda fields: fields["tensors"]["input"].update(high=1e300),
    "more tensors than a network has": lambda fields: fields["tensors"].update(
        {str(i): {"first": 0, "counts": ""} for i in range(20_000)}
    ),
    "an object that is a list": lambda fields: fields.update(tensors=[]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_no_state_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    fields = json.loads(states()[0].text())
    DAMAGE[damage](fields)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(UsageError, match="is not a calibration state") as refused:
        read_state(path)
    assert "\n" not in str(refused.value)


def test_long_lists_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("[" + "[]," * (3 << 20) + "[]]")
    with pytest.raises(UsageError, match="more than 8 MiB outside of strings"):
        read_state(path)


def test_an_image_that_can_not_be_read_is_left_out_by_the_verb_too(tmp_path: Path) -> None:
    """What looks at images beforehand refused the folder, whatever was allowed."""
    (tmp_path / "images").mkdir()
    for number, image in enumerate(stored.pictures(5)):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no picture" if number == 3 else stored.png(image))
    model, _ = nets.folded(nets.centred)
    with pytest.raises(UsageError, match=r"3.png: is not an image"):
        normexport.calibrate(model, tmp_path / "images")
    config = normexport.CalibrateConfig(skip_bad=1)
    state = normexport.calibrate(model, tmp_path / "images", config=config)
    assert [line.partition(":")[0] for line in state.skipped] == ["3.png"]
    assert len(state.samples) == 4
