"""What a call on a file of somebody else is refused with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from normexport.errors import ExitCode, FoldError


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(FoldError) as caught:
        call(*arguments, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == ExitCode.REFUSED
    return line
