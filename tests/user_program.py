"""A program as a user writes it, with every name of the library's face; it is type-checked and never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import normexport
from normexport import capsule as capsules
from normexport import nn

print(normexport.__version__)


def show_checkpoint(checkpoint: normexport.Checkpoint) -> None:
    norms: tuple[normexport.NormRecord, ...] = checkpoint.norms
    weights: tuple[normexport.WeightNormRecord, ...] = checkpoint.weight_norms
    print(*(norm.path for norm in norms), *(weight.path for weight in weights))


def show_report(report: normexport.ParityReport) -> str:
    def size(deviation: normexport.Deviation | None, budget: normexport.Budget | None) -> float:
        return 0.0 if deviation is None or budget is None else deviation.rms / budget.rms

    rows: tuple[normexport.Row, ...] = report.outputs
    batches: tuple[normexport.Batch, ...] = report.batches
    worst: list[normexport.Channel] = [channel for channels in report.channels.values() for channel in channels]
    print(len(batches), *(size(row.candidate, row.budget) for row in rows), *(channel.index for channel in worst))
    judgement: normexport.Judgement = report.judgement
    return "good" if judgement.verdict is normexport.Verdict.PASSED else "; ".join(judgement.reasons)


def show_snr(report: normexport.SnrReport) -> None:
    errors: tuple[normexport.OutputError, ...] = report.outputs
    layers: tuple[normexport.Boundary, ...] = report.layers
    print(report.passed, [error.snr_db for error in errors], [layer.path for layer in layers])


def show_precision(precision: normexport.Precision) -> None:
    kept: tuple[normexport.KeptModule, ...] = precision.kept
    losses: tuple[normexport.WeightLoss, ...] = precision.losses
    norms: tuple[normexport.IntegerNormOutcome, ...] = precision.norms
    edits: tuple[normexport.Int8Edit, ...] = precision.edits
    table: tuple[normexport.Sensitivity, ...] = precision.sensitivity
    curve: tuple[normexport.TradeOff, ...] = precision.curve
    print(kept, losses, norms, edits, table, curve, precision.accuracy)
    placement: normexport.Placement | None = precision.placement
    if placement is not None:
        points: tuple[normexport.PlacementPoint, ...] = placement.points
        print(placement.runtime, placement.excluded, [(each.snr_db, each.ratio) for each in points])


def show_manifest(manifest: normexport.Manifest) -> None:
    file: normexport.FileId = manifest.plan
    inputs: tuple[normexport.PlanTensor, ...] = manifest.inputs
    layers: tuple[normexport.NetworkLayer, ...] = manifest.layers
    print(file.sha256, [tensor.shape for tensor in inputs], [layer.onnx for layer in layers])


def show_fate(outcomes: tuple[normexport.NormOutcome, ...], warnings: tuple[normexport.FoldWarning, ...]) -> None:
    print(*((norm.path, norm.fate, norm.reason) for norm in outcomes), *warnings)


def convert_everything(folder: Path) -> int:
    checkpoint = assert_type(normexport.load("model.pt2"), normexport.Checkpoint)
    show_checkpoint(checkpoint)
    height = normexport.OpenAxis(1, "H", normexport.BatchRange(4, 64, 8))
    image = normexport.InputSpec("image", (3, 32, 32), batch=normexport.BatchRange(1, 8), open=(height,))
    engine = normexport.EngineConfig(
        targets=("sm89",),
        shapes=normexport.ShapeRange(smallest={"image": (1, 3, 32, 32)}, largest={"image": (8, 3, 32, 32)}),
    )
    small: tuple[normexport.EightBit, ...] = (
        normexport.Int8(calibration="images.npz", remainder="bfloat16"),
        normexport.Fp8(calibration="images.npz"),
    )
    lower: list[normexport.Half | normexport.EightBit] = [normexport.Half("bfloat16", keep=("head",)), *small]
    for precision in lower:
        config = normexport.ConvertConfig(
            data="images",
            engine=engine,
            precision=precision,
            export=normexport.ExportConfig(batch="dynamic"),
            preprocess=normexport.Preprocess.of("imagenet", resize=232),
        )
        conversion = assert_type(normexport.convert(checkpoint, folder, [image], config), normexport.Conversion)
        print(show_report(conversion.parity))
        if conversion.precision is not None:
            show_precision(conversion.precision)
        show_fate(conversion.outcomes, conversion.warnings)
        data: normexport.FolderRead | None = conversion.data
        print(None if data is None else (data.words, data.classes))
        operators: normexport.Operators = conversion.operators
        print(operators.before, operators.after)
        origin: normexport.Provenance = conversion.provenance
        print(origin.versions, [file.sha256 for file in (*origin.source, *origin.outputs)], origin.options)
    exported = assert_type(normexport.export(checkpoint, ["3x32x32"]), normexport.Exported)
    layers: tuple[normexport.Layer, ...] = exported.layers
    folding = assert_type(normexport.fold(exported.model, folder / "folded.onnx"), normexport.Folding)
    inspection = assert_type(normexport.inspect("model.onnx"), normexport.Inspection)
    show_fate(folding.outcomes, inspection.warnings)
    found: normexport.OnnxFile | None = inspection.file
    ports: tuple[normexport.Port, ...] = () if found is None else (*found.inputs, *found.outputs)
    print([(port.name, port.dtype, port.shape) for port in ports])
    return len(layers)


def calibrate_in_parts(folder: Path) -> str:
    here = normexport.Where()
    cluster = normexport.Where.of("ray:10.0.0.1:6379", workers=8)
    parts = [
        normexport.CalibrateConfig(samples=512, part=(part, 2), on=on, skip_bad=3)
        for part, on in ((1, here), (2, cluster))
    ]
    states = [normexport.calibrate("model.pt2", "images", config=config) for config in parts]
    whole = assert_type(normexport.merge_calibrations(states, folder / "state.json"), normexport.CalibrationState)
    seen: list[normexport.BatchesSeen] = list(whole.seen.values())
    tensors: list[normexport.Histogram] = list(whole.tensors.values())
    calibration = assert_type(whole.calibration("mse"), normexport.Calibration)
    ranges, shown = calibration.ranges, list[normexport.Coarse](calibration.shown.values())
    return f"{whole.words} {[each.count for each in seen]} {tensors[0].low} {ranges} {shown}"


def load_one_of_several(path: str) -> normexport.Checkpoint:
    part = normexport.Part("ema", prefix="model.", ignored=("criterion.",))
    return assert_type(normexport.load(path, part=part), normexport.Checkpoint)


def judge_everything(folder: Path) -> None:
    model = folder / "model.onnx"
    limits = normexport.Limits(min_snr=30.0)
    for verb in (normexport.parity, normexport.check):
        some = normexport.Draw(samples=512, seed=1, skip_bad=2)
        report = verb("model.pt2", model, data="images.npz", layers=True, limits=limits, draw=some)
        if isinstance(report, normexport.SnrReport):
            show_snr(report)
        else:
            print(show_report(report), report.first_divergence)
    accuracy = assert_type(normexport.evaluate(model, "images.npz", "model.pt2"), normexport.Accuracy)
    capsule: normexport.Capsule = capsules.read("model.capsule.npz")
    proof = assert_type(normexport.prove(capsule, model), normexport.ParityReport)
    served = assert_type(
        normexport.prove(capsule, url="grpc://localhost:8001/net", timeout=5.0), normexport.ParityReport
    )
    print(accuracy.accuracy, proof.passed, served.passed)
    signature = assert_type(normexport.sign(folder / "triton", "key.pem"), Path)
    print(assert_type(normexport.verify(folder / "triton", "key.pub", signature), int))


def measure_and_narrow_down(folder: Path) -> None:
    config = normexport.BenchConfig(batches=(1, 8), threads=(1,))
    benchmark = assert_type(normexport.bench(["a.onnx", "b.onnx"], config=config), normexport.Benchmark)
    timings: tuple[normexport.Timing, ...] = benchmark.timings
    ratios: tuple[normexport.Ratio, ...] = benchmark.ratios
    intervals: list[normexport.Interval] = [ratio.interval for ratio in ratios]
    print([timing.latency(50) for timing in timings], [interval.differs for interval in intervals])
    results: list[normexport.Result] = [benchmark, normexport.parity("a.onnx", "b.onnx")]
    print([assert_type(normexport.report(result, folder / "page.html"), Path) for result in results])
    found = assert_type(normexport.bisect("a.onnx", "b.onnx", folder), normexport.Bisection)
    fault: normexport.Fault | None = found.fault
    evidence: normexport.Evidence | None = None if fault is None else fault.evidence
    print(evidence)


def build_and_run(folder: Path, flavor: normexport.Flavor) -> None:
    with normexport.BuilderProcess(flavor) as ahead:
        manifest = normexport.build(folder / "model.onnx", folder / "model.plan", ahead=ahead)
    show_manifest(assert_type(manifest, normexport.Manifest))
    show_manifest(assert_type(normexport.inspect_plan(folder / "model.plan"), normexport.Manifest))
    plan = normexport.Plan(folder / "model.plan", trust=True)
    runtime = assert_type(plan.runtime(), normexport.TensorRTRuntime)
    shapes = assert_type(normexport.run(plan, "images.npz", "outputs.npz"), dict[str, tuple[int, ...]])
    print(runtime.input_names, shapes)


def main() -> int:
    norm = nn.L1BatchNorm2d(16)
    others = nn.TopKGroupNorm(4, 16, k=3), nn.L1LayerNorm((16, 8), bias=False)
    try:
        print(norm, others, convert_everything(Path("out")))
        judge_everything(Path("out"))
        measure_and_narrow_down(Path("out"))
    except normexport.CheckpointError as error:
        print("the checkpoint:", error.remedy)
    except (normexport.ExportError, normexport.FoldError) as error:
        print("the model:", error.place)
    except normexport.MissingComponent as error:
        print("install:", error.remedy)
    except (normexport.EngineError, normexport.UsageError) as error:
        return error.exit_code
    except normexport.NormExportError as error:
        print(error)
        return normexport.ExitCode.FAILED
    return normexport.ExitCode.GOOD
