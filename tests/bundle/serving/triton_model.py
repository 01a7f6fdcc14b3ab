"""A backend of Triton in Python that stands for its ONNX Runtime backend, which no package has: it runs the file."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration is complete."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the file that the configuration names."""
        config = json.loads(args["model_config"])
        place = args["model_repository"], args["model_version"], config["default_model_filename"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.path.join(*place), options)
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each["name"] for each in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests of one batch run as one batch, as the ONNX Runtime backend does."""
        feeds = [
            {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        whole = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        values = self._session.run(self._outputs, whole)
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        parts = zip(*(np.split(value, ends) for value in values), strict=True)
        return [
            triton.InferenceResponse(
                [triton.Tensor(*pair) for pair in zip(self._outputs, map(np.ascontiguousarray, part), strict=True)]
            )
            for part in parts
        ]
