"""A model on a server that speaks the open inference protocol (KServe v2), over HTTP or gRPC.

Triton, KServe, MLServer and OpenVINO Model Server speak it. A request that is not answered in time, or answered with
what is no answer, raises `NoAnswer`: of a server nothing is believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from normexport.dtypes import FLOATS, array_name
from normexport.errors import MissingComponent, UsageError
from normexport.runtime.base import Array, Feeds, Port
from normexport.runtime.served_address import TIMEOUT, Address
from normexport.text import first_line, printable

T = TypeVar("T")

#: Types of the protocol, by normexport's names.
WIRE_TYPES = {
    "bool": "BOOL",
    **{name: kind.short.upper() for name, kind in FLOATS.items()},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_NAMES = {wire: name for name, wire in WIRE_TYPES.items()}


class NoAnswer(Exception):
    """Why a request has no answer, in words."""


@dataclass(frozen=True)
class Answer:
    """An output as the server gave it: its values, and its type by our name ("" for one that we do not know)."""

    values: Array
    dtype: str


class ServedModel:
    """A model that a server has ready.

    Attributes:
        name: of server and model, for reports.
        server: the server's name and version, as it tells them.
        inputs: as the server declares them.
        outputs: shapes that the server declares, by name; None: a free size.
        config: the model's configuration where the server gives it (Triton), else empty.

    Raises:
        UsageError: the server can't be reached, has no such model, or does not have it ready.
        MissingComponent: tritonclient is not installed.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        if not 0 < timeout < 1e6:
            raise UsageError(f"--timeout {timeout:g}", "is no time to wait", "give seconds, such as 30")
        self._place, self._address, self._timeout = printable(url, 200), Address.of(url), timeout
        self._client, self._kit = self._connected()
        try:
            self._read()
        except NoAnswer as error:
            self.close()
            raise UsageError(self._place, str(error), "check the URL, and that the server runs") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        try:
            self._client.close()
        except Exception:  # it is gone already
            return

    def infer(self, feeds: Feeds) -> dict[str, Answer]:
        """The outputs for these inputs; floating-point ones are rounded to the type that the server reads.

        Raises:
            NoAnswer: none came within the time, or what came is no answer.
        """
        given = [self._ask(partial(self._input, port, feeds[port.name])) for port in self.inputs]
        plain = {} if self._binary or self._address.grpc else {"binary_data": False}
        asked = [self._kit.InferRequestedOutput(name, **plain) for name in self.outputs]
        known: dict[str, Any] = {"model_version": self._address.version, "outputs": asked}
        result = self._ask(lambda: self._client.infer(self._address.model, given, **known, **self._deadline()))
        return self._ask(lambda: self._answers(result))

    def _connected(self) -> tuple[Any, Any]:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it tells of refused connections on stderr
        try:
            if self._address.grpc:
                import tritonclient.grpc as kit
            else:
                import tritonclient.http as kit
        except ImportError as error:
            raise MissingComponent.of("tritonclient", "serve") from error
        if self._address.grpc:
            return kit.InferenceServerClient(self._address.server, ssl=self._address.encrypted), kit
        times = {"connection_timeout": self._timeout, "network_timeout": self._timeout}
        return kit.InferenceServerClient(self._address.server, ssl=self._address.encrypted, **times), kit

    def _deadline(self) -> dict[str, Any]:
        return {"client_timeout": self._timeout} if self._address.grpc else {}

    def _ask(self, request: Callable[[], T]) -> T:
        """What a request gives within the time, which over HTTP is that of the whole answer, not of each packet."""
        late = f"gave no answer within {self._timeout:g} s"
        try:
            if self._address.grpc:
                return request()
            import gevent

            with gevent.Timeout(self._timeout, NoAnswer(late)):
                return request()
        except NoAnswer:
            raise
        except Exception as error:  # of a library that reads what anybody may send
            words = first_line(error)
            raise NoAnswer(late if _is_late(words) else f"gave no answer ({printable(words, 200)})") from error

    def _read(self) -> None:
        """What server and model say of themselves."""
        model, version, deadline = self._address.model, self._address.version, self._deadline()
        if not self._ask(lambda: self._client.is_server_ready(**deadline)):
            raise NoAnswer("the server is not ready")
        if not self._ask(lambda: self._client.is_model_ready(model, version, **deadline)):
            raise NoAnswer(f"the server does not have the model {printable(model)} ready")
        server = self._told(self._ask(lambda: self._client.get_server_metadata(**deadline)))
        told = self._told(self._ask(lambda: self._client.get_model_metadata(model, version, **deadline)))
        try:
            self.inputs = tuple(_port(each) for each in told["inputs"])
            self.outputs = {_name(each): _sizes(each) for each in told["outputs"]}
        except (KeyError, TypeError, ValueError) as error:
            raise NoAnswer("the server describes the model in a way that is not the protocol's") from error
        # Over HTTP numbers are JSON but for servers with an extension: MLServer has none, and half types no JSON.
        self._binary = "binary_tensor_data" in server.get("extensions", ())
        words = " ".join(printable(str(server.get(key, "")), 60) for key in ("name", "version"))
        self.server = words.strip()
        self.name = f"{printable(model, 100)} on {self.server or 'a server'}"
        self.config = self._read_config()

    def _read_config(self) -> Mapping[str, Any]:
        """Triton's own extension; a server without it has no configuration to compare."""
        model, version = self._address.model, self._address.version
        try:
            told = self._told(self._ask(lambda: self._client.get_model_config(model, version, **self._deadline())))
        except NoAnswer:
            return {}
        config = told.get("config", told)
        return config if isinstance(config, Mapping) else {}

    def _told(self, answer: Any) -> Mapping[str, Any]:
        """A message of either protocol as JSON has it."""
        if self._address.grpc:
            from google.protobuf.json_format import MessageToDict

            answer = MessageToDict(answer, preserving_proto_field_name=True)
        if not isinstance(answer, Mapping):
            raise NoAnswer("the server describes itself in a way that is not the protocol's")
        return answer

    def _input(self, port: Port, array: Array) -> Any:
        wire = WIRE_TYPES[port.dtype]
        given = self._kit.InferInput(port.name, list(array.shape), wire)
        floating = port.floating and np.issubdtype(array.dtype, np.floating)
        kept = array_name(port.dtype)
        values = np.ascontiguousarray(array.astype(kept) if floating else array).reshape(array.shape)
        plain = {} if self._binary or self._address.grpc else {"binary_data": False}
        given.set_data_from_numpy(values, **plain)
        return given

    def _answers(self, result: Any) -> dict[str, Answer]:
        """The outputs that are there; an answer that names a model names this one."""
        told = result.get_response()
        name = told.model_name if self._address.grpc else told.get("model_name")
        if name and name != self._address.model:
            raise NoAnswer(f"answered for another model, {printable(str(name), 60)}")
        found = {name: result.get_output(name) for name in self.outputs}
        return {name: self._answer(result, name, given) for name, given in found.items() if given is not None}

    def _answer(self, result: Any, name: str, given: Any) -> Answer:
        wire, values = given.datatype if self._address.grpc else given.get("datatype"), result.as_numpy(name)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            raise NoAnswer(f"gave no numbers for {printable(name, 100)}")
        return Answer(values, _NAMES.get(str(wire), ""))


def _is_late(words: str) -> bool:
    return "deadline exceeded" in words.lower() or "timed out" in words.lower()


def _name(told: Mapping[str, Any]) -> str:
    name = told["name"]
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(name)
    return name


def _sizes(told: Mapping[str, Any]) -> tuple[int | None, ...]:
    sizes = [int(size) for size in told.get("shape", ())]
    return tuple(None if size < 0 else size for size in sizes)


def _port(told: Mapping[str, Any]) -> Port:
    dtype = _NAMES[str(told["datatype"])]
    return Port(_name(told), dtype, _sizes(told))
