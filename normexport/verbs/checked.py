"""What a conversion is asked, checked before anything is loaded: components, data, functions, what goes together."""

from __future__ import annotations

from dataclasses import replace

from normexport.engine import EngineConfig, check_engine
from normexport.precision import EightBit, Half
from normexport.precision.metrics import loaded_metric
from normexport.provenance.bom import require_cyclonedx
from normexport.runtime.openvino_runtime import require_openvino
from normexport.verbs.config import ConvertConfig
from normexport.verbs.real_data import check_data, check_images, require_data
from normexport.verbs.subjects import opener_of


def checked(config: ConvertConfig) -> ConvertConfig:
    """What is missing, or means nothing together, is told before anything is loaded; with functions imported.

    Raises:
        UsageError: data or a function do not serve.
        EngineError: the engine can't be built for that GPU.
        MissingComponent: of a runtime, of images, or the plugin library.
    """
    opener_of(config.runtime)
    if config.bom:
        require_cyclonedx()
    if config.openvino:
        require_openvino()
    if config.engine is not None:
        check_engine(demanding(config.engine, config.precision))
    config, precision = replace(config, metric=loaded_metric(config.metric)), config.precision
    check_data(config)
    headers = not config.draw.skip_bad
    require_data(config.draw, config.data, precision.calibration if isinstance(precision, EightBit) else None)
    if not isinstance(precision, EightBit):
        return replace(config, preprocess=check_images(config.preprocess, config.data, headers=headers))
    draw = config.draw if precision.draw is None else precision.draw
    headers &= not draw.skip_bad
    prepared = check_images(config.preprocess, config.data, precision.calibration, headers=headers)
    own = prepared
    if precision.preprocess is not None:
        own = check_images(precision.preprocess, precision.calibration, headers=headers)
    return replace(config, preprocess=prepared, precision=replace(precision, preprocess=own, draw=draw))


def demanding(engine: EngineConfig, precision: Half | EightBit | None) -> EngineConfig:
    """An engine of a reduced model must compute in what the model was reduced to."""
    if precision is None or engine.precision is not None:
        return engine
    return replace(engine, precision=precision.dtype)
