"""int8: one norm, the same bytes from the CPU kernels, from the emulated CUDA kernels and from numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from normexport.errors import MissingComponent
from normexport.norms import Scope
from normexport.plugins import norm_call
from normexport.plugins.cuda import LAYOUTS
from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import HOPPER, KINDS, TURING, Norm, run

pytestmark = pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or "")

SHAPES = [(2, 5, 63), (3, 37, 16), (1, 3, 1), (4, 6, 1), (2, 3, 1200), (1, 2, 30_000), (9, 2, 2500)]


@pytest.fixture(scope="module", autouse=True)
def _native_kernels() -> None:
    try:
        norm_call.target()
    except MissingComponent as error:
        pytest.skip(f"the CPU kernels are not built: {error}")


@pytest.mark.parametrize("instance", [False, True], ids=["batch", "instance"])
@pytest.mark.parametrize("kind", KINDS)
def test_cpu_cuda_and_numpy_give_the_same_bytes(kind: str, instance: bool) -> None:
    for number, shape in enumerate(SHAPES):
        n = shape[2] if instance else shape[0] * shape[2]
        norm = Norm(kind, "int8", instance=instance, k=min(10, n), chunks=16, epsilon=0.5)
        x, scale, bias = expected.sample(norm, shape, seed=number)
        right = expected.reference(norm, x, scale, bias)
        cpu = norm_call.norm(kind, x, scale, bias, epsilon=0.5, scope=Scope.of(instance), k=norm.k, chunks=16)
        np.testing.assert_array_equal(cpu, right, err_msg=f"CPU {shape}")
        for device in (TURING, HOPPER):
            cuda = run(norm, x, scale, bias, device=device, seed=number)
            assert cuda.status == 0, cuda.message
            np.testing.assert_array_equal(cuda.y, right, err_msg=f"CUDA {shape}")


def test_the_layout_does_not_change_a_byte() -> None:
    for kind, layout in product(KINDS, LAYOUTS):
        norm = Norm(kind, "int8", layout, k=10)
        x, scale, bias = expected.sample(norm, (3, 21, 40))
        cpu = norm_call.norm(kind, x, scale, bias, k=10, chunks=norm.chunks)
        np.testing.assert_array_equal(run(norm, x, scale, bias).y, cpu, err_msg=layout)
