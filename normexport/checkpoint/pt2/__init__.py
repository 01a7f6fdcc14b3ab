"""Exported programs (`.pt2`) of authors whom nobody vouches for: validated, then rebuilt; PyTorch opens the copy.

PyTorch's reader of these archives loads libraries, unpickles, imports by name, evaluates sizes and compiles guards and
names into source. So it is never handed an untrusted archive. The way of a file:

    archive   which members it has, each read once       -> names, JSON, raw bytes
    schema    the JSON against PyTorch's own schema       -> the same values, every string of its field's grammar
    tensors   raw numbers within the file's size          -> weights and constants
    rebuild   a new archive from these values             -> torch.export.load, then the numbers are put in
"""

from __future__ import annotations

from normexport.checkpoint.pt2.open_program import open_program

__all__ = ["open_program"]
