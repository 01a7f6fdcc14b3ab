"""The float32 model that a precision is reduced from: read, folded, and in an operator set that the precision needs."""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from normexport.checkpoint import Checkpoint
from normexport.folding import FoldResult
from normexport.graphs.fixed_weights import fix_weights
from normexport.graphs.opsets import in_opset
from normexport.io.onnx_domain import opset_in
from normexport.precision import EightBit, Int8, prepared
from normexport.recognition import fold_recognised
from normexport.verbs.config import ConvertConfig
from normexport.verbs.fold import FOLDING
from normexport.verbs.foreseen import refuse_foreseen
from normexport.verbs.networks import Foresee, Given, Network, read_checkpoint, read_onnx
from normexport.verbs.real_data import RealData
from normexport.verbs.subjects import Inputs


def read_network(
    given: Given, inputs: Inputs, config: ConvertConfig, foresee: Foresee | None = None
) -> tuple[Network, ir.Model]:
    """What is to be converted, and its graph; a checkpoint is exported, once nothing else is to be refused.

    Args:
        foresee: what refuses a checkpoint by what its file will read; None: what `config` asks for (`verbs.foreseen`).
    """
    where = config.precision.on if isinstance(config.precision, EightBit) else None
    if isinstance(given.subject, Checkpoint):
        refuse = foresee or partial(refuse_foreseen, given.subject, config)
        return read_checkpoint(given.subject, inputs, RealData.of(config), config.export, where, refuse)
    model = fix_weights(given.subject) if config.fixed_weights else given.subject
    return read_onnx(model, given.path, inputs, RealData.of(config), config.export, where)


def fold_for(model: ir.Model, config: ConvertConfig) -> FoldResult:
    """The graph folded. Live norms become operators where something serves these: integer norms, or the plugin."""
    if not config.fold:
        return FoldResult(model, (), (), False)
    served = config.engine is not None or isinstance(config.precision, Int8)
    return fold_recognised(model, FOLDING, live_operators=served)


def prepared_for(model: ir.Model, config: ConvertConfig) -> tuple[ir.Model, tuple[str, ...]]:
    """The model in the operator set that is asked for, or that its precision needs, and the note that says so."""
    if config.export.opset is not None:
        return in_opset(model, config.export.opset), ()
    precision = config.precision
    made = model if precision is None else prepared(model, precision)
    before, after = (opset_in(each.graph.opset_imports) for each in (model, made))
    return made, () if made is model else (f"taken from operator set {before} to {after}, as the precision needs",)
