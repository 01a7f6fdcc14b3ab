"""How the judge of parity decides on candidates that are wrong, and on candidates that are right.

Forty networks (`candidates.networks`), each changed in every way of `candidates.changes` that finds something to
change, folded, and rewritten by ONNX Runtime's optimiser. A change that does not show (a channel that ReLU cuts off)
makes no wrong candidate: that is decided here, by both models on ONNX Runtime on inputs of their own, not by the judge.

    python benchmarks/wrong_candidates.py [--seeds 4] [KIND ...]

Prints a table: change, candidates, PASSED, FAILED, INCONCLUSIVE; and every verdict that should not be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from candidates import changes
from candidates.networks import KINDS, Network, network

from normexport import onnx_export, proof
from normexport.errors import NormExportError
from normexport.folding import fold
from normexport.verdicts import Verdict

SHOWS = 1e-4  # of the size of an output: a change below that is none
QUIET = onnxruntime.SessionOptions()
QUIET.log_severity_level = 4
_TRIES = 6  # other places, where a change does not show


def candidates_of(net: Network, seed: int) -> Iterator[tuple[str, bool, ir.Model, ir.Model]]:
    """Name, whether it is wrong, reference and candidate."""
    for change in changes.WRONG:
        for attempt in range(_TRIES):
            rng = np.random.default_rng([seed, attempt])
            candidate = net.model.clone()
            if change(candidate, rng) and difference(net, candidate) > SHOWS:
                yield change.__name__, True, net.model, candidate
                break
    broken = net.model.clone()
    changes.nan_everywhere(broken, np.random.default_rng(0))
    yield "both nan everywhere", True, broken, broken.clone()
    constant = net.model.clone()
    changes.last_output_constant(constant, np.random.default_rng(0))
    yield "both constant in an output", True, constant, constant.clone()
    noisy = net.model.clone()
    changes.random_noise(noisy, np.random.default_rng(0))
    yield "both with random noise", True, noisy, noisy.clone()
    for change in changes.RIGHT:
        for attempt in range(2):
            candidate = net.model.clone()
            if change(candidate, np.random.default_rng([seed, attempt])):
                yield change.__name__, False, net.model, candidate
    yield "folded", False, net.model, fold(net.model).model
    for level in ("basic", "extended"):
        yield f"optimised ({level})", False, net.model, optimised(net.model, level)


def optimised(model: ir.Model, level: str) -> ir.Model:
    """As ONNX Runtime rewrites it; norms of ours become nodes first."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
        return ir.from_proto(onnx.load(options.optimized_model_filepath))


def difference(net: Network, candidate: ir.Model) -> float:
    """The largest difference of an output, as a share of its size; infinite where NaN or shapes differ."""
    rng = np.random.default_rng(99)
    feeds = {}
    for spec, value in zip(onnx_export.parse_inputs(net.inputs), net.model.graph.inputs, strict=True):
        shape = spec.sized(16)
        feeds[str(value.name)] = (
            rng.integers(0, 20, shape) if spec.dtype == "int64" else rng.standard_normal(shape).astype(np.float32) * 3
        )
    sides = [
        onnxruntime.InferenceSession(ir.to_proto(each).SerializeToString(), QUIET) for each in (net.model, candidate)
    ]
    first, second = ({o.name: v for o, v in zip(s.get_outputs(), s.run(None, feeds), strict=True)} for s in sides)
    shares = []
    for name, exact in first.items():
        other = second.get(name)
        if other is None or other.shape != exact.shape or (np.isnan(other) != np.isnan(exact)).any():
            return np.inf
        error = np.abs(np.nan_to_num(other) - np.nan_to_num(exact)).max()
        shares.append(float(error) / max(float(np.abs(np.nan_to_num(exact)).max()), 1e-30))
    return max(shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    table: dict[tuple[bool, str], Counter[str]] = {}
    wrong_verdicts = []
    for kind in args.kinds or KINDS:
        for seed in range(args.seeds):
            net = network(kind, seed)
            for name, wrong, reference, candidate in candidates_of(net, seed):
                verdict, why = judged(reference, candidate)
                table.setdefault((wrong, name), Counter())[verdict] += 1
                if verdict == ("PASSED" if wrong else "FAILED"):
                    wrong_verdicts.append(f"{net.name}: {name}: {verdict} {why}")
            print(net.name, file=sys.stderr, flush=True)
    words = [verdict.word for verdict in Verdict] + ["REFUSED"]
    print(f"| candidate | {' | '.join(words)} |\n|---|{'---|' * len(words)}")
    for wrong in (True, False):
        rows = {name: counts for (is_wrong, name), counts in table.items() if is_wrong is wrong}
        total = sum(rows.values(), Counter())
        for name, counts in {**rows, f"**all that are {'wrong' if wrong else 'right'}**": total}.items():
            print(f"| {name.replace('_', ' ')} | {' | '.join(str(counts[word]) for word in words)} |")
    print("\n".join(wrong_verdicts))
    return 1 if wrong_verdicts else 0


def judged(reference: ir.Model, candidate: ir.Model) -> tuple[str, str]:
    """The verdict's word and the reasons."""
    try:
        judgement = proof.compare(reference, candidate, layers=()).judgement
    except NormExportError as error:
        return "REFUSED", str(error)
    return judgement.verdict.word, "; ".join(judgement.reasons)


if __name__ == "__main__":
    sys.exit(main())
