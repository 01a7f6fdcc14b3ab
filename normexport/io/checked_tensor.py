"""A tensor in another file, whose bytes are those that were checked: the path is not opened again."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from normexport.io.external_data import Bytes, ExternalFiles
from normexport.io.onnx_tensors import external


class CheckedTensor(ir.ExternalTensor):
    """As onnx_ir's, read out of the file that `ExternalFiles` has opened."""

    def __init__(self, tensor: ir.ExternalTensor, content: Bytes, folder: str) -> None:
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
        self._content = content

    def numpy(self) -> npt.NDArray[Any]:
        """The numbers; of types that fill bytes, without a copy."""
        if self.dtype.bitwidth % 8:
            proto = onnx.TensorProto(data_type=self.dtype, dims=self.shape.numpy(), raw_data=self.tobytes())
            return ir.serde.TensorProtoTensor(proto).numpy()
        array: npt.NDArray[Any] = self._content.view(self.dtype.numpy().newbyteorder("<"))
        return array.reshape(self.shape.numpy())

    def __array__(self, dtype: Any = None) -> npt.NDArray[Any]:
        return np.asarray(self.numpy(), dtype)

    def tobytes(self) -> bytes:
        """The bytes as they lie in the file."""
        return self._content.tobytes()

    def tofile(self, file: BinaryIO) -> None:
        """Write those bytes."""
        file.write(self._content.data)


def checked_tensor(tensor: ir.ExternalTensor, place: str, files: ExternalFiles) -> CheckedTensor:
    """The tensor, its file opened and its bytes found there.

    Raises:
        FoldError: the file may not be opened, or the bytes are not there.
    """
    proto = onnx.TensorProto(data_type=tensor.dtype, dims=tensor.shape.numpy(), data_location=onnx.TensorProto.EXTERNAL)
    entries = {"location": str(tensor.location), "offset": tensor.offset or 0, "length": tensor.length or 0}
    for key, value in entries.items():
        proto.external_data.add(key=key, value=str(value))
    content = external(proto, f"{place}: tensor {tensor.name or '(unnamed)'}", files)
    return CheckedTensor(tensor, content, str(files.path("")))
