"""Real Ray, two nodes: every verb that goes there gives what it gives here, from data that workers read themselves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

import normexport
from normexport import onnx_export
from normexport.errors import ExitCode, UsageError
from normexport.folding import fold
from normexport.onnx_export import InputSpec
from normexport.precision.int8.gather import gather
from normexport.precision.numbered import numbered, samples_by_number
from normexport.runtime.computed_by import computed_by
from normexport.timing.config import BenchConfig
from normexport.workers import LOCAL, Where, run_in_order, run_parts
from tests.narrow import present
from tests.precision import nets
from tests.proof.inputs import stored
from tests.workers.clusters import two_nodes
from tests.workers.killed import Samples

pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.npz"
CHECKPOINTS = ROOT / "examples" / "checkpoints"
#: One of them keeps live norms.
EXAMPLES = ("residual_l1.pt2", "plain_l1_instance.pt2", "rows_l1.pt2")
EXAMPLE = CHECKPOINTS / EXAMPLES[2]
SPEC = nets.SPEC


@pytest.fixture(scope="module")
def on() -> Iterator[Where]:
    with two_nodes() as cluster:
        yield Where(True, cluster.address)


@pytest.fixture(scope="module")
def folded() -> ir.Model:
    return nets.folded(nets.live)[0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return stored.shards(tmp_path_factory.mktemp("shards"), stored.pictures(40), stored.classes(40))


@pytest.mark.parametrize("example", EXAMPLES)
def test_int8_with_its_edits_is_the_same_file_on_any_number_of_workers(example: str, on: Where, tmp_path: Path) -> None:
    """The model by its bytes; what equalisation and biases were tried and gave; the modules' ranking; the accuracy."""
    found = []
    for number, where in enumerate((LOCAL, *(replace(on, workers=workers) for workers in (1, 2, 4)))):
        precision = normexport.Int8(on=where, effort="standard", table=number in (0, 2))
        config = normexport.ConvertConfig(precision=precision, data=DIGITS)
        converted = normexport.convert(CHECKPOINTS / example, tmp_path / str(number), config=config)
        done = present(converted.precision)
        accuracy = present(done.accuracy)
        told = done.edits, done.kept, (accuracy.correct, accuracy.snr_db), done.sensitivity
        found.append(((tmp_path / str(number) / "model.onnx").read_bytes(), *told))
    assert any(edit.kept for edit in found[0][1])
    assert all(each[:4] == found[0][:4] for each in found)
    assert found[0][4] == found[2][4] != ()


def test_a_drawn_part_of_shards_calibrates_to_the_same_bytes(folded: ir.Model, shards: str, on: Where) -> None:
    data = numbered(samples_by_number(shards, (SPEC,)), 3, 17, seed=5)
    whole = gather(folded, data)
    assert len(whole.samples) == 17
    for workers in (1, 2, 4):
        assert gather(folded, data, replace(on, workers=workers)).text() == whole.text()
    arrays = [*stored.values(stored.pictures(40))]
    same = gather(folded, numbered(samples_by_number(arrays, (SPEC,)), 3, 17, seed=5))
    assert (same.samples, same.tensors.keys()) == (whole.samples, whole.tensors.keys())
    assert [same.tensors[name].counts()[0] for name in same.tensors] == [
        whole.tensors[name].counts()[0] for name in same.tensors
    ]


def test_evaluation_reads_its_samples_there_and_counts_the_same(shards: str, on: Where) -> None:
    model = fold(onnx_export.export(nets.stressed(), (SPEC,)).model).model
    found = [
        normexport.evaluate(model, shards, model, on=where, samples=samples, limits=normexport.Limits(max_drop=1.0))
        for samples in (None, 23)
        for where in (LOCAL, on)
    ]
    assert [each.samples for each in found] == [40, 40, 23, 23]
    for here, there in (found[:2], found[2:]):
        plain = [{**each.as_dict(), "samples_per_second": 0} for each in (here, there)]
        assert json.dumps(plain[0], default=str) == json.dumps(plain[1], default=str)


def test_a_sample_that_can_not_be_read_is_named_wherever_it_is(folded: ir.Model, on: Where, tmp_path: Path) -> None:
    images = stored.pictures(9)
    members = {f"{number}.png": stored.png(image) for number, image in enumerate(images)}
    members["4.png"] = b"no picture"
    (tmp_path / "a.tar").write_bytes(stored.tar(members))
    data = numbered(samples_by_number(tmp_path / "a.tar", (SPEC,)), 2)
    for where in (LOCAL, on):
        with pytest.raises(UsageError, match=r"a.tar: 4.png: is not an image"):
            gather(folded, data, where)
    states = [gather(folded, data, where, skip_bad=1) for where in (LOCAL, on)]
    assert states[0].text() == states[1].text()
    assert len(states[0].skipped) == 1
    assert "4.png" in states[0].skipped[0]


def test_parity_of_many_batches_is_the_same_report(on: Where) -> None:
    net = nets.live()
    first = onnx_export.export(net, (SPEC,)).model
    second = fold(first).model
    sizes = (1, 2, 3, 5, 8, 13)
    reports = [normexport.parity(first, second, batches=sizes, on=where) for where in (LOCAL, on)]
    assert reports[0].judgement.passed
    assert json.dumps(reports[0].as_dict(), default=str) == json.dumps(reports[1].as_dict(), default=str)
    third = second.clone()
    # The last one: what is added before a norm over space is taken out by it.
    bias = [each for each in third.graph.initializers.values() if each.shape is not None and len(each.shape) == 1][-1]
    assert bias.const_value is not None
    bias.const_value = ir.tensor(bias.const_value.numpy() + np.float32(0.5))
    assert not normexport.parity(first, third, batches=sizes, on=on).judgement.passed


def test_a_benchmark_says_which_node_measured_what(on: Where) -> None:
    model = fold(onnx_export.export(nets.stressed(), (SPEC,)).model).model
    config = BenchConfig(batches=(1, 2), openings=1, duration=0.05, warm_up=5, on=on)
    found = normexport.bench([model, model], config=config)
    assert [each.batch for each in found.timings] == [1, 1, 2, 2]
    assert [(each.case, each.base) for each in found.ratios] == [(1, 0), (3, 2)]
    assert sum("measured on" in note for note in found.notes) == 2
    assert all(len(each.latencies) for each in found.timings)


def test_parts_that_want_a_node_for_themselves_never_share_it(on: Where, tmp_path: Path) -> None:
    parts = [str(tmp_path / str(number)) for number in range(4)]
    spans = sorted(run_in_order(on, open_spans, None, parts, alone=True))
    nodes = {node for _, _, node in spans}
    for node in nodes:
        mine = [(start, end) for start, end, other in spans if other == node]
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(mine))


def open_spans(job: None) -> Callable[[str], tuple[float, float, str]]:
    """When a part ran, and on which node."""
    import time

    import ray

    def work(part: str) -> tuple[float, float, str]:
        start = time.monotonic()
        time.sleep(0.3)
        return start, time.monotonic(), ray.get_runtime_context().get_node_id()

    return work


def test_results_larger_than_all_object_stores_arrive(on: Where) -> None:
    """Each store holds 80 MB; six parts of 40 MB are more than both: Ray writes to disk what it has no room for."""
    found = {number: (float(array[0]), array.nbytes) for number, array in run_parts(on, open_large, None, range(6))}
    assert found == {number: (float(number), 40 << 20) for number in range(6)}


def open_large(job: None) -> Callable[[int], Any]:
    return lambda part: np.full(5 << 20, part, np.float64)


def test_workers_without_the_native_library_are_refused_by_name(on: Where, folded: ir.Model) -> None:
    """Computers differ where a library does: one is enough to refuse all."""
    here = computed_by(folded)
    other = f"{here}, native norms 0123456789ab"
    with pytest.raises(UsageError, match=r"has workers that round otherwise: .*native norms 0123456789ab"):
        list(_agreeing(on, [here, other]))


def _agreeing(on: Where, computers: list[str]) -> Iterator[Any]:
    from normexport.runtime.elsewhere import require_same

    first = ""
    for computer in run_in_order(on, open_names, None, computers):
        first = first or computer
        require_same(on, first, computer)
        yield computer


def open_names(job: None) -> Callable[[str], str]:
    return lambda name: name


def test_what_can_not_go_there_is_refused_in_a_line(on: Where, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for two float32 ONNX files on onnxruntime"):
        normexport.parity(nets.live(), nets.folded(nets.live)[0], inputs=("3x12x12",), on=on)
    words = ["parity", str(EXAMPLE), str(EXAMPLE), "--on", "ray:", "--workers", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.USAGE
    assert "--on ray:: is no place to compute" in result.stderr


def test_samples_in_memory_travel_as_they_are(folded: ir.Model, on: Where, tmp_path: Path) -> None:
    data = numbered(samples_by_number(Samples(tmp_path / "x"), (InputSpec("input", (3, 12, 12)),)), 5)
    assert gather(folded, data, on).text() == gather(folded, data).text()
