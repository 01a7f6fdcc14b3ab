"""A server of the open inference protocol over HTTP that answers as it is told to, right or wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

Outputs = dict[str, np.ndarray]
Change = Callable[[Outputs], Outputs]

_TYPES = {"float32": "FP32", "int64": "INT64", "float64": "FP64", "float16": "FP16"}


class StandIn:
    """Serves an ONNX file as the model `net`.

    Attributes:
        change: what becomes of the outputs before they are sent.
        answer: in place of an answer: bytes of a whole HTTP response, or a number of seconds to say nothing.
        metadata: fields of the model's metadata that are told otherwise.
    """

    def __init__(self, model: Path) -> None:
        self._session = onnxruntime.InferenceSession(model)
        self.change: Change = lambda outputs: outputs
        self.answer: bytes | float | None = None
        self.metadata: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.extensions = ["binary_tensor_data"]
        self.requests = 0

    def described(self) -> dict[str, Any]:
        def port(value: Any) -> dict[str, Any]:
            wire = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}[value.type]
            return {
                "name": value.name,
                "datatype": wire,
                "shape": [size if isinstance(size, int) else -1 for size in value.shape],
            }

        inputs, outputs = map(port, self._session.get_inputs()), map(port, self._session.get_outputs())
        return {"name": "net", "versions": ["1"], "inputs": [*inputs], "outputs": [*outputs], **self.metadata}

    def infer(self, body: bytes, head: int) -> bytes:
        request = json.loads(body[:head])
        feeds, at = {}, head
        for each in request["inputs"]:
            if "data" in each:
                feeds[each["name"]] = np.array(each["data"], np.float32).reshape(each["shape"])
                continue
            size = each["parameters"]["binary_data_size"]
            feeds[each["name"]] = np.frombuffer(body[at : at + size], np.float32).reshape(each["shape"])
            at += size
        names = [output.name for output in self._session.get_outputs()]
        outputs = self.change(dict(zip(names, self._session.run(names, feeds), strict=True)))
        return json.dumps({"model_name": "net", "outputs": [_told(*pair) for pair in outputs.items()]}).encode()


def _told(name: str, values: np.ndarray) -> Mapping[str, Any]:
    return {
        "name": name,
        "datatype": _TYPES[values.dtype.name],
        "shape": list(values.shape),
        "data": values.reshape(-1).tolist(),
    }


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Gives the URL of the model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            paths = {
                "/v2": {"name": "stand-in", "version": "1.0", "extensions": stand_in.extensions},
                "/v2/models/net": stand_in.described(),
                "/v2/models/net/config": stand_in.config or None,
            }
            if self.path in ("/v2/health/ready", "/v2/models/net/ready"):
                self._send(200, b"")
            elif paths.get(self.path) is not None:
                self._send(200, json.dumps(paths[self.path]).encode())
            else:
                self._send(404, b'{"error": "no such thing"}')

        def do_POST(self) -> None:
            stand_in.requests += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if isinstance(stand_in.answer, bytes):
                self.wfile.write(stand_in.answer)
                self.close_connection = True
            elif stand_in.answer is not None:
                time.sleep(stand_in.answer)
                self.close_connection = True
            else:
                head = int(self.headers.get("Inference-Header-Content-Length", len(body)))
                self._send(200, stand_in.infer(body, head))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/net"
    finally:
        server.shutdown()
        server.server_close()
