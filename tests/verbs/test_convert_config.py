"""What `convert` is told is refused where it is given, not minutes later."""

from __future__ import annotations

from typing import Any

import pytest

from normexport import ConvertConfig, UsageError


@pytest.mark.parametrize("words", [{"precision": "fp16"}, {"precision": "int8"}, {"engine": "rtx"}])
def test_a_name_in_place_of_a_config_is_refused_where_it_is_given(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give ") as refused:
        ConvertConfig(**words)
    assert "\n" not in str(refused.value)
    assert next(iter(words.values())) in str(refused.value)
