"""What no input reaches, in candidates of lower precision and against networks of PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch import nn

from normexport import load, parity
from normexport.verdicts import Verdict

HIDDEN = "s = Sin(x) p = Constant <value = float {2}> () h = Pow(s, p)"  # between 0 and 1
SIX = "six = Constant <value = float {6}> ()"
#: To a half type and back, and through a quantiser.
LOWER = {
    "half": "a = Cast <to = 10> (v) y = Cast <to = 1> (a)",
    "bfloat16": "a = Cast <to = 16> (v) b = Mul(a, a) c = Cast <to = 1> (b) y = Sqrt(c)",  # no CPU multiplies these
    "int8": "q = QuantizeLinear(v, scale, zero) y = DequantizeLinear(q, scale, zero)",
}
CHANGES = {
    "a ceiling": "v = Min(h, six)",
    "a condition": "g = Greater(h, six) v = Where(g, six, h)",
    "a branch": "m = ReduceMax <keepdims = 0> (h) g = Greater(m, six) v = If(g) <then_branch = "
    "s1 () => (float[N,8] o) { o = Neg(h) }, else_branch = s2 () => (float[N,8] r) { r = Identity(h) }>",
    "random numbers": "n = RandomNormalLike <scale = 0.00001> (h) v = Add(h, n)",
}


def model(nodes: str) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[N,8] x) => (float[N,8] y) {{ {HIDDEN} {SIX} {nodes} }}'
    made = parser.parse_model(text)
    constants: dict[str, np.ndarray] = {"scale": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8)}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return made


@pytest.mark.parametrize("lower", LOWER.values(), ids=list(LOWER))
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_candidate_of_lower_precision_is_asked_as_any_other(lower: str, change: str) -> None:
    reference = model("y = Identity(h)")
    assert parity(reference, model(f"v = Identity(h) {lower}")).judgement.verdict is Verdict.PASSED
    assert parity(reference, model(f"{change} {lower}")).judgement.verdict is Verdict.INCONCLUSIVE


def test_what_a_half_file_asks_of_its_inputs_is_tried() -> None:
    """-7 stands for what is missing, in one of the two."""
    ask = "l = Constant <value = float {-7}> () g = Equal(x, l) v = Where(g, six, h)"
    report = parity(model("y = Identity(h)"), model(f"{ask} {LOWER['half']}"))
    assert report.judgement.verdict is Verdict.FAILED


def test_a_quantiser_may_do_what_a_limit_does() -> None:
    """Where it holds nothing beyond it: a ReLU6 of numbers below 1 needs none of its own."""
    assert (
        parity(model("y = Min(h, six)"), model(f"v = Identity(h) {LOWER['int8']}")).judgement.verdict is Verdict.PASSED
    )


class Hidden(nn.Module):
    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.activation, self.layer = activation(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.activation(torch.sin(self.layer(x)) ** 3)
        return hidden


@pytest.mark.parametrize("theirs", [nn.ReLU6, nn.ReLU])
def test_a_file_of_another_exporter_against_a_network(theirs: type[nn.Module], tmp_path: Path) -> None:
    x = torch.zeros(2, 4)
    ours, other = Hidden(nn.ReLU6).eval(), Hidden(theirs).eval()
    other.load_state_dict(ours.state_dict())
    torch.export.save(torch.export.export(ours, (x,)), tmp_path / "net.pt2")
    torch.onnx.export(other, (x,), tmp_path / "other.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    verdict = parity(tmp_path / "net.pt2", tmp_path / "other.onnx").judgement.verdict
    assert verdict is (Verdict.PASSED if theirs is nn.ReLU6 else Verdict.INCONCLUSIVE)


class Missing(Hidden):
    """-7 stands for what is missing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.where(x == -7, 0.5, x))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("theirs", "activation", "verdict"),
    [
        (Hidden, nn.ReLU6, Verdict.PASSED),
        (Hidden, nn.ReLU, Verdict.INCONCLUSIVE),
        (Missing, nn.ReLU6, Verdict.FAILED),
    ],
)
def test_networks_are_asked_by_their_graphs(
    theirs: type[Hidden], activation: type[nn.Module], verdict: Verdict, whole: bool, tmp_path: Path
) -> None:
    x = torch.zeros(2, 4)
    ours, other = Hidden(nn.ReLU6).eval(), theirs(activation).eval()
    other.load_state_dict(ours.state_dict())
    torch.export.save(torch.export.export(other, (x,)), tmp_path / "other.pt2")
    if whole:
        torch.export.save(torch.export.export(ours, (x,)), tmp_path / "net.pt2")
    else:
        torch.onnx.export(ours, (x,), tmp_path / "net.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    found = parity(tmp_path / ("net.pt2" if whole else "net.onnx"), tmp_path / "other.pt2").judgement.verdict
    assert found is verdict


class Undecided(Hidden):
    """No export holds both ways."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def test_a_network_without_an_export_is_judged_and_the_report_says_what_was_not_looked_for(tmp_path: Path) -> None:
    torch.save(Undecided(nn.ReLU6).eval(), tmp_path / "net.pt")
    network = load(tmp_path / "net.pt", trust=True)
    report = parity(network, network, ["4"])
    assert report.judgement.verdict is not Verdict.FAILED
    assert any("was not looked for" in note for note in report.notes)
