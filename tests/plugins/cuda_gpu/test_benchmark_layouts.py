"""The tensors of the benchmark lie in memory where the kernels look for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from norm_bench.layouts import LAYOUTS, packed, unpacked

from tests.plugins.cuda_emulated.emulated import addresses


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_tensors_follow_the_address_formula(layout: str) -> None:
    shape = (3, 64, 5, 7)
    x = torch.arange(int(np.prod(shape))).reshape(shape)
    memory = packed(x, layout)
    where = addresses(layout, (3, 64, 35), 64 * 35)
    np.testing.assert_array_equal(memory.flatten().numpy()[where], x.flatten(2).numpy())
    assert torch.equal(unpacked(memory, shape), x)


def test_channels_that_need_padding_are_refused() -> None:
    with pytest.raises(ValueError, match="30 channels are no multiple of 8"):
        packed(torch.zeros(1, 30, 2, 2), "HWC8")
