"""A model that is no function of its inputs is never proven: buffers that change, random numbers, Python that looks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normexport import convert, load
from normexport.onnx_export import InputSpec
from normexport.onnx_export.state_in_graph import doubts_of_program
from normexport.onnx_export.torch_export import program_of
from normexport.proof import check_torch, compare, standard_batches
from normexport.proof.doubts.steady import doubts_of
from normexport.verdicts import Verdict

pytestmark = pytest.mark.slow

INPUTS = (InputSpec("input", (4,)),)


class Layer(nn.Module):
    """A Linear, and what the classes below do beside it."""

    kept: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)
        self.register_buffer("kept", torch.zeros(4))
        self.calls = 0
        self.first: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Counts(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept += 1
        return self.fc(x) * torch.where(self.kept > 1000, 2.0, 1.0)


class Averages(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept.lerp_(x.mean(0), 1e-7)
        return self.fc(x - self.kept)


class Assigns(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = self.kept * 0.999 + x.mean(0)
        return self.fc(x - self.kept)


class ReadsWhatItKept(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x + self.kept)
        self.kept.copy_(x.mean(0))
        return y


class KeepsTheFirst(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first is None:
            self.first = x.abs().mean()
        return self.fc(x / self.first)


class CountsInPython(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.fc(x) * (1 if self.calls < 1000 else 2)


class Drops(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + 1e-7 * F.dropout(x, 0.5, training=True)


class Noisy(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x + 1e-6 * torch.randn_like(x))


class NoisyByNumpy(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * (1 + 1e-4 * np.random.rand())


class NoisyByPython(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * (1 + 1e-4 * random.random())


class LooksUnlessTraced(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling() and x.abs().max() > 1000:
            return 2 * self.fc(x)
        return self.fc(x)


class CatchesTheRefusal(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            large = bool(x.abs().max() > 1000)
        except Exception:  # what the network is here for
            large = False
        return 2 * self.fc(x) if large else self.fc(x)


class HookThatCounts(Layer):
    def __init__(self) -> None:
        super().__init__()
        calls = []

        def grow(module: nn.Linear, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return output * (1 + 1e-3 * len(calls))

        self.fc.register_forward_hook(grow)


UNSTEADY = {
    Counts: "kept: is changed by every run",
    Averages: "kept: is changed by every run",
    Assigns: "kept: is changed by every run",
    ReadsWhatItKept: "another result for the same input",
    KeepsTheFirst: "another result for the same input",
    CountsInPython: "calls: is changed by every run",
    Drops: "draws random numbers",
    Noisy: "draws random numbers",
    NoisyByNumpy: "draws random numbers",
    NoisyByPython: "draws random numbers",
    LooksUnlessTraced: "its Python looks at numbers that it computes",
    CatchesTheRefusal: "its Python looks at numbers that it computes",
    HookThatCounts: "another result for the same input",
}


class NotesDown(Layer):
    """Keeps its last input for whoever debugs it, and reads it no more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept.copy_(x.mean(0))
        return self.fc(x)


class WritesBeforeItReads(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept.copy_(x.mean(0))
        return self.fc(x + self.kept)


class DrawsForNothing(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return self.fc(x)


class ComputesWithWhatItReads(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * x.max().item()


class Resting(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.rest = nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.BatchNorm1d(4, momentum=None))
        self.lstm = nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.rest(x)[:, None])[0]


class WritesIntoItsInput(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.relu_())


STEADY = (Layer, NotesDown, WritesBeforeItReads, DrawsForNothing, ComputesWithWhatItReads, Resting, WritesIntoItsInput)


def doubts(model: Any) -> tuple[str, ...]:
    return doubts_of(model, INPUTS, ["output"], "float32", standard_batches(INPUTS))


@pytest.mark.parametrize("kind", UNSTEADY)
def test_a_model_that_is_no_function_of_its_inputs_is_told_with_the_reason(kind: type[Layer]) -> None:
    assert UNSTEADY[kind] in " ".join(doubts(kind().eval()))


@pytest.mark.parametrize("kind", STEADY)
def test_a_model_that_is_a_function_of_its_inputs_gives_no_doubts(kind: type[Layer]) -> None:
    model = kind().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert doubts(model) == ()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [Counts, Averages, Drops, NoisyByPython, CatchesTheRefusal, CountsInPython])
def test_it_is_not_converted_to_a_file_that_passes(kind: type[Layer], tmp_path: Path) -> None:
    torch.save(kind().state_dict(), tmp_path / "net.pt")
    conversion = convert(load(tmp_path / "net.pt", model=kind), tmp_path / "out", ["4"])
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert any(UNSTEADY[kind] in reason for reason in conversion.judgement.reasons)


def test_it_does_not_pass_against_itself() -> None:
    judgement = check_torch(Counts().eval(), Counts().eval(), INPUTS).judgement
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert check_torch(Layer().eval(), Layer().eval(), INPUTS).judgement.passed


def test_a_graph_says_which_buffer_it_changes_and_reads_and_what_it_draws() -> None:
    told = {
        kind: doubts_of_program(program_of(kind().eval(), INPUTS)) for kind in (Averages, Drops, NotesDown, Resting)
    }
    assert told[Averages] == (
        "kept: is changed by every run and read by it; the file keeps the value of the checkpoint",
    )
    assert told[Drops] == ("the model: draws random numbers in evaluation (aten.dropout.default)",)
    assert told[NotesDown] == told[Resting] == ()
    assert doubts(program_of(Averages().eval(), INPUTS))
    assert not doubts(program_of(Layer().eval(), INPUTS))


def noisy_file(amplitude: float) -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 4] x) => (float[N, 4] y) {{
        share = Constant <value_float: float = {amplitude}>()
        noise = RandomNormalLike <seed: float = 1.0>(x)
        little = Mul(noise, share)
        y = Add(x, little)
    }}"""
    return ir.from_onnx_text(text)


def test_an_onnx_file_that_draws_numbers_does_not_pass_against_itself() -> None:
    report = compare(noisy_file(1e-9), noisy_file(1e-9))
    assert report.judgement.verdict is not Verdict.PASSED
    assert any("draws random numbers" in reason for reason in report.unproven)


class Rotates(nn.Module):
    """Multiplies frequencies by complex numbers."""

    phases: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phases", torch.polar(torch.ones(3), torch.tensor([0.0, 1.0, 2.0])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * self.phases, n=4)


def test_complex_buffers_keep_their_imaginary_parts_in_float32() -> None:
    report = check_torch(Rotates().eval(), Rotates().eval(), INPUTS)
    assert report.judgement.passed
    assert max(row.baseline.relative_rms for row in report.outputs) < 1e-5


def test_a_forward_that_writes_into_its_input_leaves_the_callers_arrays_alone(tmp_path: Path) -> None:
    torch.save(WritesIntoItsInput().state_dict(), tmp_path / "net.pt")
    assert convert(load(tmp_path / "net.pt", model=WritesIntoItsInput), tmp_path / "out", ["4"]).passed
