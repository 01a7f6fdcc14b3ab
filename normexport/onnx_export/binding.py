"""Inputs named like parameters of `forward` belong to those parameters, in whatever order they were given."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import nn

from normexport.errors import UsageError
from normexport.onnx_export.inputs import InputSpec


def bound(model: nn.Module, inputs: Sequence[InputSpec], place: str) -> tuple[InputSpec, ...]:
    """`inputs` in the order in which `forward` takes them.

    Names that are none of forward's parameters are just names: the inputs are then positional, as given. Those beside
    names of parameters belong to `*args`.

    Raises:
        UsageError: some names are parameters and others not, or a parameter between them is left out.
    """
    signature = inspect.signature(model.forward).parameters
    takes_more = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.values())
    parameters = [
        name
        for name, parameter in signature.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    by_name = {spec.name: spec for spec in inputs}
    known = [name for name in parameters if name in by_name]
    if not known:
        return tuple(inputs)
    listed = ", ".join(parameters)
    more = [name for name in by_name if name not in parameters]
    for name in more:
        if not takes_more:
            raise UsageError(f"--input {name}", f"is no parameter of {place}'s forward({listed})", "use its names")
    skipped = [name for name in (parameters if more else parameters[: len(known)]) if name not in by_name]
    if skipped:
        raise UsageError(
            f"--input {known[-1]}", f"comes after {skipped[0]} in {place}'s forward({listed})", f"give {skipped[0]} too"
        )
    return tuple(by_name[name] for name in (*known, *more))
