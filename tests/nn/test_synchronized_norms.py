"""Norms whose statistics are those of several processes: each computes what one process with the whole batch does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from normexport import nn as nxn
from normexport.nn import synchronize_norms
from tests.nn.formulas import KINDS, TITLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="this PyTorch was built without torch.distributed"),
]

#: Samples of each process: equal, uneven, and with none in one.
SHARES: dict[int, list[tuple[int, ...]]] = {2: [(3, 3), (5, 1)], 4: [(2, 1, 3, 2), (0, 4, 1, 3)]}
CHANNELS, SPACE = 3, (3, 5)


def norm_of(kind: str) -> Any:
    own = {"topk": {"k": 7}, "range": {"chunks": 5}}.get(kind, {})
    norm = getattr(nxn, f"{TITLES[kind]}BatchNorm2d")(CHANNELS, dtype=torch.float64, **own)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -1.5, 2.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.0, -2.0]))
    return norm


def batch(samples: int, tied: bool) -> tuple[Tensor, Tensor]:
    """x and the gradient of y; with ties, of few values, so that many elements are largest in several processes."""
    generator = torch.Generator().manual_seed(samples + tied)
    x, g = (torch.randn(samples, CHANNELS, *SPACE, generator=generator, dtype=torch.float64) for _ in range(2))
    return (x.mul(2).round().clamp(-1, 1) + 3 if tied else x * 2 + 3), g


def step(norm: Any, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """What a training step computes of one batch."""
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    return {
        "y": y.detach(), "dx": x.grad, "dweight": norm.weight.grad, "dbias": norm.bias.grad,
        "mean": norm.running_mean, "scale": norm.running_scale, "batches": norm.num_batches_tracked,
        "eval": norm.eval()(x).detach(),
    }  # fmt: skip


def work(rank: int, world: int, folder: str, backend: str = "gloo") -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    found: dict[Any, Any] = {}
    for shares in SHARES[world]:
        start, end = sum(shares[:rank]), sum(shares[: rank + 1])
        for kind in KINDS:
            for tied in (False, True):
                x, g = (each[start:end].to(device) for each in batch(sum(shares), tied))
                made = step(synchronize_norms(norm_of(kind).to(device)), x, g)
                found[shares, kind, tied] = {name: value.cpu() for name, value in made.items()}
    x = batch(4, tied=False)[0].to(device)
    if rank == 0:
        x[0, 1, 0, 0] = math.nan
        x[0, 2, 0, 0] = math.inf
    for kind in KINDS:
        norm = synchronize_norms(norm_of(kind).to(device))
        found["nan", kind] = norm(x[:0] if rank == world - 1 else x).detach().cpu()
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def all_found(world: int, folder: Path, backend: str) -> list[dict[Any, Any]]:
    """What each process computed."""
    spawn(work, (world, str(folder), backend), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    return all_found(request.param, tmp_path_factory.mktemp("processes"), "gloo")


def require_same(found: list[dict[Any, Any]], kind: str, tied: bool) -> None:
    """What the processes computed is what one with the whole batch does."""
    for shares in SHARES[len(found)]:
        whole = step(norm_of(kind), *batch(sum(shares), tied))
        parts = [each[shares, kind, tied] for each in found]
        for name in ("y", "dx", "eval"):
            together = torch.cat([part[name] for part in parts])
            torch.testing.assert_close(together, whole[name], rtol=1e-12, atol=1e-12)
        for name in ("dweight", "dbias"):
            torch.testing.assert_close(sum(part[name] for part in parts), whole[name], rtol=1e-12, atol=1e-12)
        for name in ("mean", "scale", "batches"):
            for part in parts:
                torch.testing.assert_close(part[name], whole[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_processes_compute_what_one_with_the_whole_batch_does(
    kind: str, tied: bool, found: list[dict[Any, Any]]
) -> None:
    require_same(found, kind, tied)


@pytest.mark.skipif(
    not (dist.is_available() and dist.is_nccl_available() and torch.cuda.device_count() >= 2),
    reason="nccl gives each process a GPU of its own: this needs two, and a PyTorch built with nccl",
)
def test_processes_on_gpus_do_so_by_nccl(tmp_path: Path) -> None:
    found = all_found(2, tmp_path, "nccl")
    for kind in KINDS:
        for tied in (False, True):
            require_same(found, kind, tied)
        for rank, each in enumerate(found):
            y = each["nan", kind]
            assert y[:, 0].isfinite().all()
            assert y[:, 1:].isnan().all()
            assert len(y) == (0 if rank == 1 else 4)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_of_one_process_reach_all(kind: str, found: list[dict[Any, Any]]) -> None:
    for rank, each in enumerate(found):
        y = each["nan", kind]
        assert y[:, 0].isfinite().all()
        assert y[:, 1:].isnan().all()
        assert len(y) == (0 if rank == len(found) - 1 else 4)


def test_one_process_needs_no_other() -> None:
    x, g = batch(4, tied=False)
    for kind in KINDS:
        synchronized, plain = step(synchronize_norms(norm_of(kind)), x, g), step(norm_of(kind), x, g)
        for name, value in plain.items():
            torch.testing.assert_close(synchronized[name], value, rtol=0, atol=0)


def test_batch_norms_are_synchronised_and_others_are_left() -> None:
    model = nn.Sequential(nxn.L1BatchNorm2d(4), nxn.L1InstanceNorm2d(4), nxn.L1GroupNorm(2, 4), nn.BatchNorm2d(4))
    assert synchronize_norms(model) is model
    assert [module.is_synchronized for module in model if isinstance(module, nxn.Norm)] == [True, False, False]
