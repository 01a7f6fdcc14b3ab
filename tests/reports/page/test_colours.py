"""Colours of a page can be told from what lies behind them: WCAG 2.2, level AA, in light and dark."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from normexport.reports.page import plots

STYLE = (files("normexport.reports.page") / "page.css").read_text("utf-8")
TEXT, GRAPHIC = 4.5, 3.0


def palettes() -> dict[str, dict[str, str]]:
    """The variables of the two colour schemes."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
    )
    return {"light": light, "dark": dark}


def contrast(one: str, other: str) -> float:
    """The ratio of relative luminances, by the formula of WCAG."""

    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_known_ratios() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_level_aa(scheme: str) -> None:
    colours = palettes()[scheme]
    for name in ("ink", "quiet", "link", "good", "bad", "unsure", "live"):
        for behind in ("page", "panel"):
            assert contrast(colours[name], colours[behind]) >= TEXT, (name, behind)
    assert contrast(colours["edge"], colours["page"]) >= GRAPHIC


def test_figures_have_it_on_the_page_behind_them() -> None:
    for scheme, colours in (("light", plots.LIGHT), ("dark", plots.DARK)):
        page = palettes()[scheme]["page"]
        for colour in (colours.ink, colours.main, colours.other, colours.bad):
            assert contrast(colour, page) >= TEXT, (scheme, colour)


def test_the_colours_of_figures_are_all_different_so_that_one_can_take_the_place_of_another() -> None:
    told = [*vars(plots.LIGHT).values(), *vars(plots.DARK).values()]
    assert len(set(told)) == len(told)


def test_no_rule_uses_a_colour_that_is_not_of_the_two_schemes() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.S)
    assert not re.findall(r"#[0-9a-f]{3,8}\b|rgb|hsl", rules)
    assert set(re.findall(r"var\(--(\w+)\)", rules)) <= set(palettes()["light"])
    assert set(palettes()["light"]) == set(palettes()["dark"])
