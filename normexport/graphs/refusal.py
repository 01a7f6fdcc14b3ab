"""Why an edit of a graph is not made."""

from __future__ import annotations


class Refuse(Exception):
    """Why a rewrite would not be exact, or not worth it, in words that name nodes and tensors."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
