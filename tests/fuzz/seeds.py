"""Honest files of every kind, made of small networks, that mutation starts from; made once, when asked for."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from normexport.nn import L1BatchNorm2d, TopKInstanceNorm2d
from tests.checkpoint import weight_files
from tests.cli import small_nets

#: Names of files -> their content; a case starts from one of these.
Files = dict[str, bytes]

EXAMPLES = Path(__file__).parents[2] / "examples" / "checkpoints"
FACTORY, SHAPE = "tests.cli.small_nets:Small", small_nets.SHAPE


def saved(value: Any, **how: Any) -> bytes:
    """What `torch.save` writes."""
    out = io.BytesIO()
    torch.save(value, out, **how)
    return out.getvalue()


def plain_module() -> nn.Module:
    """A module of allow-listed classes alone, so that it opens without trust."""
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), L1BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
    )
    model = nn.Sequential(
        block, TopKInstanceNorm2d(6, k=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    model(torch.randn(4, 3, 8, 8))
    return model.eval()


@cache
def checkpoints() -> dict[str, bytes]:
    """`.pt` files of every kind that `torch.save` writes."""
    state, model = small_nets.trained().state_dict(), plain_module()
    optimiser = torch.optim.Adam(model.parameters())
    training = {
        "epoch": 3, "state_dict": state, "optimizer": optimiser.state_dict(), "best": np.float64(0.9), "name": "run 1",
        "history": [1.0, {"loss": torch.ones(2)}], "args": {"lr": 0.1, "layers": (1, 2)},
    }  # fmt: skip
    wrapped = {f"module.{name}": value for name, value in state.items()}
    return {
        "state": saved(state),
        "module": saved(model),
        "training": saved(training),
        "wrapped": saved(wrapped),
        "old_state": saved(state, _use_new_zipfile_serialization=False),
        "old_module": saved(model, _use_new_zipfile_serialization=False),
        "half": saved({name: value.half() if value.is_floating_point() else value for name, value in state.items()}),
    }


@cache
def lightning() -> bytes:
    """What a Trainer of Lightning writes: weights under a prefix, a loss's beside them, an average, settings."""
    state = {f"model.{name}": value for name, value in small_nets.trained().state_dict().items()}
    content = {
        "epoch": 1, "global_step": 7, "pytorch-lightning_version": "2.6.1", "loops": {"fit_loop": {"state_dict": {}}},
        "state_dict": {**state, "criterion.weight": torch.ones(4)}, "hparams_name": "kwargs", "lr_schedulers": [],
        "callbacks": {"EMA{'every': 1}": {"ema": {name: value * 1 for name, value in state.items()}}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"lr": 0.1, "depth": 3, "name": "run", "sizes": [1, 2]},
    }  # fmt: skip
    return saved(content)


@cache
def torchscript() -> dict[str, bytes]:
    """Archives of TorchScript: traced, and scripted."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.1)).eval()
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyTorch calls deprecated
        traced: Any = torch.jit.trace(small_nets.trained(), torch.randn(1, 3, 8, 8))
        for name, module in (("traced", traced), ("scripted", torch.jit.script(plain))):
            out = io.BytesIO()
            torch.jit.save(module, out)
            made[name] = out.getvalue()
    return made


@cache
def safetensors() -> dict[str, bytes]:
    """A network in one safetensors file, and in two files with their index."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = small_nets.trained().state_dict()
        weight_files.write_safetensors(folder / "model.safetensors", state)
        half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
        weight_files.write_safetensors(folder / "half.safetensors", half)
        weight_files.write_shards(folder, state, weight_files.write_safetensors, "safetensors")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


class Structured(nn.Module):
    """Control flow, a dict input, symbolic sizes, a constant and a buffer outside the state: most of the schema."""

    grid: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), L1BatchNorm2d(6)
        self.register_buffer("grid", torch.arange(4.0), persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A convolution, its norm, and a choice by the data."""
        x = self.norm(self.conv(inputs["x"]))
        chosen = torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,))
        rows = chosen.reshape(x.shape[0], -1, x.shape[2] * x.shape[3])
        return rows.mean(2), self.grid * inputs["scale"]


@cache
def programs() -> dict[str, bytes]:
    """`.pt2` files: static, dynamic, structured; and one of the repository's examples."""
    from torch.export import Dim, export

    model, structured = small_nets.trained(), Structured().eval()
    sides = {0: Dim.DYNAMIC, 2: Dim.AUTO, 3: Dim.AUTO}
    arguments = ({"x": torch.randn(2, 3, 8, 8), "scale": torch.ones(4)},)
    made = {
        "static": export(model, (torch.randn(1, 3, 8, 8),)),
        "batch": export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: Dim("batch")},)),
        "sides": export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(sides,)),
        "structured": export(structured, arguments, dynamic_shapes=({"x": sides, "scale": None},)),
    }
    out = {"example": (EXAMPLES / "bounded_none.pt2").read_bytes()}
    for name, program in made.items():
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        out[name] = buffer.getvalue()
    return out


@cache
def graphs() -> dict[str, Files]:
    """ONNX files: norms folded, norms as operators with bodies, naive norms, weights in a file beside, subgraphs."""
    import normexport

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights.pth").write_bytes(checkpoints()["state"])
        loaded = normexport.load(folder / "weights.pth", model=FACTORY)
        normexport.export(loaded, (SHAPE,), folder / "live.onnx")
        import normexport

        normexport.fold(folder / "live.onnx", folder / "folded.onnx")
        live, folded = (folder / "live.onnx").read_bytes(), (folder / "folded.onnx").read_bytes()
    naive = _naive()
    files = {name: {"model.onnx": data} for name, data in {"live": live, "folded": folded, "naive": naive}.items()}
    return {**files, "external": _external(naive), "branches": {"model.onnx": _branches()}}


def _naive() -> bytes:
    """Conv, BatchNormalization, and a norm written as Sub, Div, Mul, Add, as other exporters do."""
    rng = np.random.default_rng(0)
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        make("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"], "norm"),
        make("Relu", ["n"], ["r"], "relu"),
        make("Sub", ["r", "column"], ["d"], "sub"),
        make("Div", ["d", "column"], ["e"], "div"),
        make("Reshape", ["e", "shape"], ["f"], "reshape"),
        make("Gemm", ["f", "matrix", "bias"], ["y"], "gemm", transB=1),
    ]
    arrays = {
        "w": rng.normal(size=(6, 3, 3, 3)), "scale": np.ones(6), "bias": np.zeros(6), "mean": np.ones(6),
        "var": np.ones(6), "column": np.full((6, 1, 1), 2.0), "matrix": rng.normal(size=(6, 384)),
    }  # fmt: skip
    constants = [tensor(array.astype(np.float32), name) for name, array in arrays.items()]
    constants.append(tensor(np.array([-1, 384], np.int64), "shape"))
    return _model(nodes, constants, ["N", 3, 8, 8], ["N", 6])


def _branches() -> bytes:
    """An If and a Loop, whose bodies read values from outside."""
    make, value, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    kind = onnx.TensorProto.FLOAT
    branch = onnx.helper.make_graph([make("Add", ["x", "one"], ["b"])], "branch", [], [value("b", kind, None)])
    ends = [value("i", 7, []), value("c", 9, []), value("v", kind, None)], [value("c2", 9, []), value("v2", kind, None)]
    body = onnx.helper.make_graph([make("Identity", ["c"], ["c2"]), make("Mul", ["v", "one"], ["v2"])], "body", *ends)
    nodes = [
        make("If", ["yes"], ["chosen"], "if", then_branch=branch, else_branch=branch),
        make("Loop", ["three", "", "chosen"], ["looped"], "loop", body=body),
        make("Identity", ["looped"], ["y"], "end"),
    ]
    constants = [
        tensor(np.array(True), "yes"),
        tensor(np.array(3, np.int64), "three"),
        tensor(np.ones(1, np.float32), "one"),
    ]
    return _model(nodes, constants, ["N", 3, 8, 8], ["N", 3, 8, 8])


def _model(nodes: list[Any], constants: list[Any], reads: list[Any], gives: list[Any]) -> bytes:
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", onnx.TensorProto.FLOAT, reads)], [value("y", onnx.TensorProto.FLOAT, gives)]
    graph = onnx.helper.make_graph(nodes, "network", *ends, constants)
    opset = [onnx.helper.make_opsetid("", 20)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def _external(data: bytes) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        how: dict[str, Any] = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
        onnx.save(onnx.load_from_string(data), f"{folder}/model.onnx", **how)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@cache
def arrays() -> dict[str, bytes]:
    """`.npz` files with labels and the inputs of the networks above (`input` or `x`), stored and deflated."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(5, 3, 8, 8)).astype(np.float32), np.array([0, 1, 2, 3, 0])
    out = {}
    for name, save in {"stored": np.savez, "deflated": np.savez_compressed}.items():
        buffer = io.BytesIO()
        save(buffer, input=images, x=images, labels=labels)
        out[name] = buffer.getvalue()
    return out


@cache
def manifest(plan: bytes, plugin: bool = False) -> bytes:
    """The manifest of a plan of these bytes, as `build` writes it; with a plugin library, or without."""
    from normexport.engine import manifest as written

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.plan"
        path.write_bytes(plan)
        plan_id = written.FileId.of(path)
    tensor = written.PlanTensor("input", "float32", (-1, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8))
    made = written.Manifest(
        plan=plan_id, onnx=written.FileId("model.onnx", 10, "0" * 64),
        plugin=written.FileId("libnorms.so", 10, "1" * 64) if plugin else None, embedded=False, host_code=False,
        normexport="0.2.0", flavor="tensorrt-rtx", flavor_version="1.7.1", targets=("sm89",), inputs=(tensor,),
        outputs=(written.PlanTensor("y", "float32", (-1, 4)),), precision={"float32": 3, "float16": 1},
        plugins=(("norm", "L1BatchNorm", "norm"),), bodies=("RunningNorm",),
        layers=(written.NetworkLayer("conv", "convolution", "float32", "conv", "conv"),), options={"precision": "fp32"},
        warnings=("a warning",), seconds={"build": 1.5},
    )  # fmt: skip
    return written.manifest_text(made).encode()


@cache
def capsule() -> Files:
    """A capsule, and the ONNX file that it was made with."""
    import normexport

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights.pth").write_bytes(checkpoints()["state"])
        config = normexport.ConvertConfig(capsule=folder / "capsule.npz", batches=(1, 2))
        normexport.convert(normexport.load(folder / "weights.pth", model=FACTORY), folder / "out", (SHAPE,), config)
        return {
            "capsule.npz": (folder / "capsule.npz").read_bytes(),
            "model.onnx": (folder / "out" / "model.onnx").read_bytes(),
        }


@cache
def layer_map() -> bytes:
    """The layer map of the live ONNX file."""
    import normexport

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        path.write_bytes(checkpoints()["state"])
        normexport.export(normexport.load(path, model=FACTORY), (SHAPE,), Path(folder) / "model.onnx")
        return (Path(folder) / "model.layers.json").read_bytes()


@cache
def calibration() -> bytes:
    """The calibration cache of the folded ONNX file."""
    from normexport.io.onnx_model import open_onnx
    from normexport.precision.int8.calibration import calibrate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graphs()["folded"]["model.onnx"])
        reads = onnx.load(path).graph.input[0].name
        found = calibrate(open_onnx(path), [{reads: np.load(io.BytesIO(arrays()["stored"]))["x"]}], "mse")
        found.save(Path(folder) / "cache.json")
        text = (Path(folder) / "cache.json").read_bytes()
    json.loads(text)
    return text


@cache
def calibration_state() -> bytes:
    """The calibration state of the folded ONNX file."""
    from normexport.io.onnx_model import open_onnx
    from normexport.onnx_export import InputSpec
    from normexport.precision.int8.gather import gather
    from normexport.precision.numbered import numbered, samples_by_number

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graphs()["folded"]["model.onnx"])
        reads, images = onnx.load(path).graph.input[0].name, np.load(io.BytesIO(arrays()["stored"]))["x"]
        spec = InputSpec(reads, images.shape[1:])
        return gather(open_onnx(path), numbered(samples_by_number(list(images), (spec,)), 2)).text().encode()


def pictures() -> Callable[[str], bytes]:
    """Suffix -> a small picture."""
    from tests.fuzz import pictures

    return pictures.honest
