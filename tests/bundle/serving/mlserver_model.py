"""A model of MLServer that runs an ONNX file."""

from __future__ import annotations

from typing import Any

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, ResponseOutput


class OnnxModel(MLModel):  # type: ignore[misc]  # MLServer is in an environment of its own
    """The file is the model's `uri`."""

    async def load(self) -> bool:
        """Opens it, and tells its inputs and outputs."""
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        types = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}

        def told(ports: Any) -> list[Any]:
            return [
                MetadataTensor(
                    name=port.name,
                    datatype=types[port.type],
                    shape=[size if isinstance(size, int) else -1 for size in port.shape],
                )
                for port in ports
            ]

        self.inputs, self.outputs = told(self._session.get_inputs()), told(self._session.get_outputs())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs it."""
        feeds = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        names = [each.name for each in self._session.get_outputs()]
        values = self._session.run(names, feeds)
        types = {"float32": "FP32", "int64": "INT64"}
        # MLServer's own codec gives (n, 1) for an array of n.
        outputs = [
            ResponseOutput(
                name=name, shape=[*value.shape], datatype=types[value.dtype.name], data=value.ravel().tolist()
            )
            for name, value in zip(names, values, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
