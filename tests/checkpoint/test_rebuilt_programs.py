"""A program that was checked and written anew is the program that its author exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from normexport.checkpoint import load
from tests.checkpoint.program_archives import members_of, pickled, would_run, written
from tests.checkpoint.support import IMAGES, Payload, exported, l1_trained


def test_untrusted_archives_open_with_trust_where_they_did(program: Path, tmp_path: Path, marker: Path) -> None:
    extra = written(tmp_path / "m.pt2", {**members_of(program), "data/sample_inputs/x.PT": pickled(Payload(marker))})
    would_run(extra, marker)
    assert load(extra, trust=True).source == "program"


def test_a_rebuilt_program_is_the_program(program: Path) -> None:
    """Graph, signature, ranges and every weight are those that PyTorch's own reader finds; guards still hold."""
    ours, torchs = load(program).program, torch.export.load(program)
    assert ours.graph_module.code == torchs.graph_module.code
    assert ours.graph_signature == torchs.graph_signature
    assert str(ours.range_constraints) == str(torchs.range_constraints)
    for name, value in torchs.state_dict.items():
        own = ours.state_dict[name]
        assert (type(own), own.dtype, own.stride()) == (type(value), value.dtype, value.stride())
        assert torch.equal(own, value)
    assert torch.equal(ours.module()(IMAGES), torchs.module()(IMAGES))
    for each in (ours, torchs):
        with pytest.raises((AssertionError, RuntimeError)):
            each.module()(IMAGES[:, :, :2])  # smaller than the kernel


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint16, torch.bool, torch.complex64,
     torch.float8_e4m3fn],
)  # fmt: skip
def test_constants_of_every_type_are_read_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    class Holds(nn.Module):
        whole: torch.Tensor
        part: torch.Tensor
        turned: torch.Tensor
        none: torch.Tensor
        scalar: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(24, dtype=torch.float32).to(dtype)
            self.register_buffer("whole", whole)
            self.register_buffer("part", whole.view(4, 6)[1:, ::2], persistent=True)
            self.register_buffer("turned", whole.view(4, 6).t(), persistent=False)
            self.register_buffer("none", whole[:0])
            self.register_buffer("scalar", whole[3].clone())

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x + self.whole.shape[0], self.part, self.turned, self.none, self.scalar

    file = exported(tmp_path / "m.pt2", Holds().eval())
    ours, torchs = load(file).program, torch.export.load(file)
    for own, other in ((ours.state_dict, torchs.state_dict), (ours.constants, torchs.constants)):
        assert list(own) == list(other)
        for name, value in other.items():
            assert (own[name].dtype, own[name].shape, own[name].stride()) == (value.dtype, value.shape, value.stride())
            assert own[name].contiguous().flatten().tolist() == value.contiguous().flatten().tolist()
    assert ours.state_dict["whole"].data_ptr() == ours.state_dict["part"].data_ptr() - 6 * dtype.itemsize


def test_a_program_exported_on_a_gpu_is_read_for_the_cpu(program: Path, tmp_path: Path) -> None:
    members = members_of(program)
    for name in ("models/model.json", "data/weights/model_weights_config.json"):
        members[name] = members[name].replace(b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 0}')
    net = l1_trained()
    torch.testing.assert_close(load(written(tmp_path / "m.pt2", members)).program.module()(IMAGES), net(IMAGES))


def test_dropout_that_is_switched_on_is_refused_and_off_it_opens(tmp_path: Path, marker: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    assert load(exported(tmp_path / "off.pt2", net.eval())).source == "program"
    on = exported(tmp_path / "on.pt2", net.train())
    assert "draws random numbers" in would_run(on, marker)
    assert load(on, trust=True).source == "program"
