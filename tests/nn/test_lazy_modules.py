"""Lazy norms take their size from the first input and are then the norm of that size."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

import normexport.nn as nxn
from normexport.errors import UsageError
from tests.nn.formulas import KINDS, TITLES

SHAPES: dict[str, tuple[int, ...]] = {
    "BatchNorm1d": (6, 5, 7), "BatchNorm2d": (4, 5, 3, 7), "BatchNorm3d": (2, 5, 3, 3, 3),
    "InstanceNorm1d": (6, 5, 17), "InstanceNorm2d": (5, 4, 7), "InstanceNorm3d": (2, 5, 3, 3, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", SHAPES)
def test_a_lazy_norm_becomes_the_one_of_its_first_input(kind: str, form: str) -> None:
    plain = getattr(nxn, f"{TITLES[kind]}{form}")
    lazy = getattr(nxn, f"{TITLES[kind]}Lazy{form}")(eps=1e-3, momentum=0.3)
    torch.manual_seed(0)
    x = torch.randn(SHAPES[form])
    expected = plain(5, eps=1e-3, momentum=0.3, affine=True, track_running_stats=True)
    assert lazy.has_uninitialized_params()
    assert torch.equal(lazy(x), expected(x))
    assert type(lazy) is plain
    assert vars(lazy).keys() == vars(expected).keys()
    assert torch.equal(lazy.running_scale, expected.running_scale)
    assert repr(lazy) == repr(expected)
    again = pickle.loads(pickle.dumps(lazy))
    assert torch.equal(again.eval()(x), expected.eval()(x))


def test_options_reach_it_and_stay() -> None:
    lazy: Any = nxn.TopKLazyBatchNorm2d(affine=False, track_running_stats=False, k=3, dtype=torch.float64)
    lazy(torch.randn(2, 4, 3, 3, dtype=torch.float64))
    assert (lazy.k, lazy.weight, lazy.running_mean, lazy.num_features) == (3, None, None, 4)
    half: Any = nxn.L1LazyBatchNorm2d().half()
    half(torch.randn(2, 4, 3, 3).half())
    assert (half.weight.dtype, half.running_scale.dtype) == (torch.float16, torch.float16)


def test_a_stored_norm_loads_into_one_that_has_no_size_yet() -> None:
    torch.manual_seed(0)
    trained: Any = nxn.LinfBatchNorm2d(4)
    x = torch.randn(3, 4, 5, 5)
    trained(x)
    lazy: Any = nxn.LinfLazyBatchNorm2d()
    lazy.load_state_dict(trained.state_dict())
    assert torch.equal(lazy.eval()(x), trained.eval()(x))
    assert lazy.num_features == 4
    other: Any = nxn.L1LazyBatchNorm2d()
    with pytest.raises(RuntimeError, match="of kind 'linf', and L1LazyBatchNorm2d is 'l1'"):
        other.load_state_dict(trained.state_dict())


def test_an_input_of_another_rank_leaves_it_lazy() -> None:
    lazy: Any = nxn.L1LazyBatchNorm2d()
    with pytest.raises(ValueError, match="expected 4D input"):
        lazy(torch.randn(3, 4, 5))
    assert lazy.has_uninitialized_params()
    assert lazy(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)


def test_torchs_lazy_norms_are_converted_after_a_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d())
    with pytest.raises(UsageError, match="is lazy and has no size yet; run the model on one batch first"):
        nxn.convert_norms(model, "l1")
    model(torch.randn(2, 3, 6, 6))
    converted: Any = nxn.convert_norms(model, "l1", data=[torch.randn(2, 3, 6, 6)])
    assert type(converted[1]) is nxn.L1BatchNorm2d
