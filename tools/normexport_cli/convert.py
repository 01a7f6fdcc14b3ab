"""`normexport convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import UsageError
from normexport.precision.config import Half, Int8, Limits
from normexport.verbs.config import ConvertConfig
from normexport_cli import engine_options, options, precision_options
from normexport_cli.options import LoadOptions
from normexport_cli.screen import print_json, result_console, working

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder to write to; by default named after the checkpoint."),
]
NoFold = Annotated[bool, typer.Option("--no-fold", metavar="", help="Keep every norm as an operator of its own.")]
Engine = Annotated[bool, typer.Option("--engine", metavar="", help="Build a TensorRT plan of the file too.")]
Capsule = Annotated[
    Path | None,
    typer.Option("--capsule", metavar="FILE.npz", help="Write what `normexport prove` judges by, where all passed."),
]
CapsuleSize = Annotated[
    float, typer.Option("--capsule-size", metavar="MB", help="The most that the capsule's arrays may take.")
]
_MB = 1 << 20


def convert(
    checkpoint: options.Checkpoint,
    output: Output = None,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    dialect: options.Dialect = None,
    trust: options.Trust = False,
    no_fold: NoFold = False,
    data: options.Data = None,
    batches: options.Batches = None,
    precision: precision_options.Precision = "fp32",
    io_dtype: precision_options.IoDtype = Half.io_dtype,
    keep_fp32: precision_options.KeepFp32 = [],  # noqa: B006
    calibration_data: precision_options.CalibrationData = None,
    calibration: precision_options.Calibration = Int8.method,
    calibration_cache: precision_options.CalibrationCache = None,
    calibration_batch: precision_options.CalibrationBatch = Int8.batch,
    max_drop: precision_options.MaxDrop = Limits.max_drop,
    min_snr: precision_options.MinSnr = Limits.min_snr,
    symmetric: precision_options.Symmetric = False,
    labels_for: precision_options.LabelsFor = None,
    sensitivity: precision_options.SensitivityTable = False,
    engine: Engine = False,
    flavor: engine_options.Flavor = engine_options.FLAVOR,
    targets: engine_options.Targets = [],  # noqa: B006
    no_plugins: engine_options.NoPlugins = False,
    debug_tensors: engine_options.DebugTensors = False,
    capsule: Capsule = None,
    capsule_size: CapsuleSize = ConvertConfig.capsule_bytes / _MB,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Convert a checkpoint to a folded ONNX file, and prove that it computes the same.

    Writes model.onnx, model.layers.json and report.json, and with --engine model.plan and model.plan.json. The last
    line is PARITY or, with --precision fp16, bf16 or int8, PRECISION and the verdict: PASSED, FAILED (exit code 1), or
    INCONCLUSIVE (7) where nothing was shown either way.

    \b
      normexport convert model.pt2 -o out
      normexport convert weights.pth --model resnet:resnet18 --input 3x224x224
      normexport convert model.pt2 --precision int8 --calibration-data images/ --data test.npz
    """
    with working("Converting", json=json, debug=debug) as on_stage:
        how, sizes = LoadOptions.of(model, model_kwargs, dialect, trust), options.batch_sizes(batches)
        built = (
            engine_options.engine_config(flavor, targets, no_plugins, debug_tensors=debug_tensors) if engine else None
        )
        asked = {"--target": targets, "--no-plugins": no_plugins, "--debug-tensors": debug_tensors}
        for option in (option for option, given in asked.items() if given and built is None):
            raise UsageError(option, "has no engine to go to", "add --engine")
        if not 0 < capsule_size < 1 << 20:
            raise UsageError(f"--capsule-size {capsule_size:g}", "is not a size", "give megabytes, such as 64")
        how_int8 = calibration_data, calibration, calibration_cache, calibration_batch, (max_drop, min_snr)
        reduction = precision_options.precision_config(
            precision, io_dtype, keep_fp32, *how_int8, symmetric=symmetric, table=sensitivity, labels_for=labels_for
        )
        on_stage("load")  # importing torch is most of it
        import normexport

        folder = output if output is not None else Path(checkpoint.stem)
        most = int(capsule_size * _MB)
        config = ConvertConfig(not no_fold, data, sizes, built, reduction, capsule, most, labels_for)
        result = normexport.convert(lambda: how.load(checkpoint), folder, inputs, config, on_stage, on_stage.samples)
    if json:
        print_json(result.as_dict())
    else:
        from normexport.reports.terminal import show_conversion

        show_conversion(result_console(), result)
    raise typer.Exit(result.judgement.verdict.exit_code)
