"""JSON on the command line: one reading, or one line."""

from __future__ import annotations

import pytest
from normexport_cli.options import LoadOptions

from normexport.errors import UsageError


def test_keyword_arguments_are_a_json_object() -> None:
    assert LoadOptions("m:f", '{"depth": 18, "wide": [1, {"a": null}]}').arguments == {
        "depth": 18,
        "wide": [1, {"a": None}],
    }


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"depth": 18, "depth": 50}', "gives 'depth' twice"),
        ('{"epsilon": NaN}', "holds NaN"),
        ("{'depth': 18}", "is no JSON"),
        ("[1]", "is not a JSON object"),
        ('{"depth": 1' + "0" * 5000 + "}", "too long"),
    ],
)
def test_keyword_arguments_that_are_none_are_one_clear_line(words: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause) as raised:
        LoadOptions("m:f", words)
    assert str(raised.value).startswith("--model-kwargs: is not ")
    assert len(str(raised.value).splitlines()) == 1
