"""A tensor in another file, whose bytes are those that were checked: the path is not opened again."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from normexport.io.external_data import ExternalFiles
from normexport.io.held_file import Stretch
from normexport.io.held_weights import HELD_FROM
from normexport.io.onnx_tensors import external


class CheckedTensor(ir.ExternalTensor):
    """As onnx_ir's, read out of the file that `ExternalFiles` has opened: a small one once, others at each use."""

    def __init__(self, tensor: ir.ExternalTensor, stretch: Stretch, folder: str) -> None:
        super().__init__(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name or "",
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
            base_dir=folder,
        )
        self._stretch = stretch
        self._small = bytes(stretch.read()) if stretch.size < HELD_FROM else None

    def numpy(self) -> npt.NDArray[Any]:
        """The numbers, in memory of their own."""
        if self.dtype.bitwidth % 8:
            proto = onnx.TensorProto(data_type=self.dtype, dims=self.shape.numpy(), raw_data=self.tobytes())
            return ir.serde.TensorProtoTensor(proto).numpy()
        array: npt.NDArray[Any] = np.frombuffer(self._content(), self.dtype.numpy().newbyteorder("<"))
        return array.reshape(self.shape.numpy())

    def __array__(self, dtype: Any = None) -> npt.NDArray[Any]:
        return np.asarray(self.numpy(), dtype)

    def tobytes(self) -> bytes:
        """The bytes as they lie in the file."""
        return bytes(self._content())

    def tofile(self, file: BinaryIO) -> None:
        """Write those bytes."""
        file.write(self._content())

    def _content(self) -> bytes | bytearray:
        return self._small if self._small is not None else self._stretch.read()


def checked_tensor(tensor: ir.ExternalTensor, place: str, files: ExternalFiles) -> CheckedTensor:
    """The tensor, its file opened and its bytes found there.

    Raises:
        FoldError: the file may not be opened, or the bytes are not there.
    """
    proto = onnx.TensorProto(data_type=tensor.dtype, dims=tensor.shape.numpy(), data_location=onnx.TensorProto.EXTERNAL)
    entries = {"location": str(tensor.location), "offset": tensor.offset or 0, "length": tensor.length or 0}
    for key, value in entries.items():
        proto.external_data.add(key=key, value=str(value))
    stretch = external(proto, f"{place}: tensor {tensor.name or '(unnamed)'}", files)
    return CheckedTensor(tensor, stretch, str(files.path("")))
