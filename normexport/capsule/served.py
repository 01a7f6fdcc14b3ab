"""A served model as what a capsule judges: `normexport prove CAPSULE --url http://localhost:8000/MODEL`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from normexport.capsule.candidates import Absent, Given
from normexport.capsule.content import Capsule, Reference, Run
from normexport.errors import UsageError
from normexport.runtime import Array
from normexport.runtime.served import Answer, NoAnswer, ServedModel
from normexport.text import printable

#: The parameter of a Triton model that holds the SHA-256 of the ONNX file that it serves, or that its plan is from.
MODEL_HASH = "normexport.onnx.sha256"

#: And those that hold the versions of what it was made by, by the names of these.
MODEL_VERSIONS = {
    "normexport": "normexport.version",
    "onnxruntime": "normexport.onnxruntime.version",
    "tensorrt": "normexport.tensorrt.version",
}


class ServedCandidate:
    """A model on a server; it has outputs and no inner values.

    Attributes:
        name: of model and server.
        types: of the outputs, as the last answer had them.

    Raises:
        UsageError: it reads other inputs than the capsule has.
    """

    def __init__(self, model: ServedModel, capsule: Capsule) -> None:
        self._model, self.name = model, model.name
        self.types: dict[str, str] = {}
        self._require_inputs(capsule)
        most = model.config.get("max_batch_size", 0)
        self._most = most if isinstance(most, int) else 0

    def lacks(self, number: int, run: Run) -> str | None:
        """Where the server takes other sizes alone."""
        for port in self._model.inputs:
            shape, sizes = run.feeds[port.name].shape, port.shape or ()
            if len(sizes) == len(shape) and any(
                size is not None and size != given for size, given in zip(sizes, shape, strict=True)
            ):
                return f"the server takes {port.name} as {_shape(sizes)}"
            if self._most and shape and shape[0] > self._most:
                return f"the server takes a batch of 1 to {self._most}"
        return None

    def give(
        self, number: int, run: Run, boundaries: Mapping[str, Reference], sink: Callable[[str, Given], None]
    ) -> dict[str, Given]:
        """The server's answer to the run's inputs; what is wrong with it, for each output, where there is none."""
        for name in boundaries:
            sink(name, Absent("a server shows no inner values"))
        try:
            answers = self._model.infer(self._fed(run))
        except NoAnswer as error:
            return {output.name: f"the server {error}" for output in run.outputs}
        self.types = {name: answer.dtype for name, answer in answers.items()}
        return {
            output.name: self._value(answers[output.name], output) if output.name in answers else Absent("is missing")
            for output in run.outputs
        }

    def note(self, capsule: Capsule) -> str | None:
        """Where the server says that it has another file than the capsule was made with."""
        told = self._model.config.get("parameters", {})
        known = told.get(MODEL_HASH, {}) if isinstance(told, Mapping) else {}
        digest = known.get("string_value") if isinstance(known, Mapping) else None
        if digest is None or not capsule.model or digest == capsule.model[0].sha256:
            return None
        return "the server has a model of another file than the capsule was made with"

    def versions(self, capsule: Capsule) -> str:
        """The versions of the server, of what made the model that it serves, and of what made the capsule."""
        told = self._model.config.get("parameters", {})
        made = {}
        for name, key in MODEL_VERSIONS.items():
            given = told.get(key) if isinstance(told, Mapping) else None
            if isinstance(given, Mapping) and given.get("string_value"):
                made[name] = printable(str(given["string_value"]), 60)
        theirs = ", ".join(f"{name} {version}" for name, version in made.items())
        own = ", ".join(f"{name} {capsule.versions[name]}" for name in MODEL_VERSIONS if name in capsule.versions)
        return (
            f"server: {self._model.server or 'tells no version'}; "
            f"its model was made by: {theirs or 'not told'}; the capsule by: {own or 'not told'}"
        )

    def _fed(self, run: Run) -> dict[str, Array]:
        """Inputs of a batch alone have an axis of one behind it where the server wants that, as Triton does."""
        fed = {}
        for port in self._model.inputs:
            array, sizes = run.feeds[port.name], port.shape
            wants_one = sizes is not None and len(sizes) == array.ndim + 1 and sizes[-1] == 1
            fed[port.name] = array[..., None] if wants_one else array
        return fed

    def _value(self, answer: Answer, output: Reference) -> Given:
        """Triton has no outputs without axes beside the batch: one that it declares on top, of one element, is left."""
        values, declared = answer.values, self._model.outputs.get(output.name, ())
        if not answer.dtype:
            return "dtype unknown to the protocol"
        on_top = len(declared) == len(output.shape) + 1 and declared[-1] == 1
        return values[..., 0] if on_top and values.shape == (*output.shape, 1) else values

    def _require_inputs(self, capsule: Capsule) -> None:
        has, needs = {port.name for port in self._model.inputs}, set(capsule.inputs)
        if has != needs:
            words = ", ".join(sorted(printable(name, 60) for name in has)) or "nothing"
            raise UsageError(self.name, f"reads {words}, and the capsule has {', '.join(needs)}", "check the URL")
        for port in self._model.inputs:
            floating = capsule.inputs[port.name].startswith(("float", "bfloat"))
            if port.floating != floating or not (floating or port.dtype == capsule.inputs[port.name]):
                cause = f"reads {port.name} as {port.dtype}, and the capsule has {capsule.inputs[port.name]}"
                raise UsageError(self.name, cause, "check the URL")


def _shape(sizes: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in sizes) + ")"
