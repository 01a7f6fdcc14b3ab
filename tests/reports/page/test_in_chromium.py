"""Pages in a real browser: hostile names do nothing, nothing is asked for, and keys do what the mouse does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from normexport.reports import page
from tests.reports.page import documents
from tests.reports.page.browser import chromium
from tests.reports.page.test_page import KINDS, html_of

pytestmark = pytest.mark.slow

SIZES = [(1280, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Opened:
    """A page from disk, with what it printed, what it asked for, and errors of its script."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.troubles: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.troubles.append(message.text))
        self.tab.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.troubles.append(dialog.message))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(file.as_uri())

    def rows(self) -> list[str]:
        """Names of the rows of the network that can be seen."""
        names: list[str] = self.tab.locator("#network .row .name").all_inner_texts()
        return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_run_nothing_and_load_nothing(
    browser: Any, file: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normexport.reports.page.plots.can_plot", lambda: False)
    for word, (width, scheme) in zip(documents.HOSTILE, itertools.cycle(SIZES)):
        file.write_text(html_of(KINDS[kind](word), [*documents.HOSTILE, word]), "utf-8")
        opened = Opened(browser, file, width, scheme)
        if kind not in ("bench", "evaluate"):
            opened.tab.click("#network-open")
        assert opened.tab.evaluate("[...document.scripts].length") == 3  # layout, script, and the rows, which are data
        assert opened.tab.title() != "owned"
        assert opened.troubles == []
        assert opened.asked == [file.as_uri()]
        assert opened.tab.evaluate("document.documentElement.scrollWidth") <= width
        opened.tab.close()


def test_what_is_put_into_a_page_afterwards_can_not_run(browser: Any, file: Path) -> None:
    """The second barrier, alone: a script and a handler that slipped through would be refused by the policy."""
    slipped = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"></main>"
    file.write_text(html_of(documents.parity()).replace("</main>", slipped), "utf-8")
    opened = Opened(browser, file)
    assert opened.tab.title() != "owned"
    assert any("Content Security Policy" in trouble for trouble in opened.troubles)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_network_is_used_by_keys_alone(browser: Any, file: Path, width: int, scheme: str) -> None:
    read = page.read_document(documents.conversion())
    network = page.read_network(documents.model(["/a/b", "/a/c", "/a/d/e", "/a/d/f", "g"]), read.norms)
    file.write_text(page.render(read, network), "utf-8")
    opened = Opened(browser, file, width, scheme)
    tab = opened.tab
    tab.click("#network-close")
    closed = opened.rows()
    assert closed[:2] == ["x", "a"]
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.querySelector('.name').textContent") == "a"
    tab.keyboard.press("ArrowRight")
    assert opened.rows() == ["x", "a", "/a/b", "/a/c", "d", *closed[2:]]
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert "operator" in tab.inner_text(".row .more")
    tab.keyboard.press("Enter")
    assert tab.locator(".row .more").count() == 0
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert opened.rows() == closed
    tab.keyboard.press("End")
    assert tab.evaluate("document.activeElement.querySelector('.name').textContent") == closed[-1]
    assert opened.troubles == []


def test_norms_are_filtered_by_words_and_fate(browser: Any, file: Path) -> None:
    file.write_text(html_of(documents.conversion()), "utf-8")
    tab = Opened(browser, file).tab
    assert tab.inner_text("#norm-count") == "3 of 3 norms"
    tab.fill("#norm-words", "LOWERED because")
    assert tab.inner_text("#norm-count") == "1 of 3 norms"
    tab.fill("#norm-words", "")
    tab.select_option("#norm-fate", "live")
    assert tab.locator("#norm-table tbody tr:visible").all_inner_texts()[0].startswith("layer1.norm.live")


def test_arrows_end_where_rows_are_read(browser: Any, file: Path) -> None:
    """Five rows in a chain, the third reading the input once more: four straight arrows and a lane."""
    file.write_text(html_of(documents.parity(), ["a", "b", "c"]), "utf-8")
    tab = Opened(browser, file).tab
    assert tab.locator("#network svg circle").count() == 5
    assert tab.locator("#network svg path").count() == 5


def boxes(tab: Any) -> dict[str, dict[str, float]]:
    """Where each box of the graph stands, by its name."""
    found: dict[str, dict[str, float]] = tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#graph .box')].map(box => {"
        "  const {x, y, width, height} = box.querySelector('rect').getBBox();"
        "  return [box.item.name, {x, y, right: x + width, bottom: y + height}]; }))"
    )
    return found


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_graph_shows_branches_side_by_side_and_modules_around_what_they_hold(
    browser: Any, file: Path, width: int, scheme: str
) -> None:
    read = page.read_document(documents.parity())
    model = documents.model(["/a/b", "/a/c", "/a/d/e", "/a/d/f", "g"])
    file.write_text(page.render(read, page.read_network(model, read.norms)), "utf-8")
    opened = Opened(browser, file, width, scheme)
    tab = opened.tab
    tab.click("#network-open")
    if width < 1000:
        assert not tab.locator("#graph").is_visible()
        tab.click("#network-graph")
        assert tab.get_attribute("#network-graph", "aria-pressed") == "true"
        assert not tab.locator("#network .row").first.is_visible()
    where = boxes(tab)
    assert {"x", "a", "/a/b", "/a/c", "d", "/a/d/e", "/a/d/f", "g"} <= set(where)
    for outer, inner in (("a", "/a/b"), ("a", "d"), ("d", "/a/d/e"), ("d", "/a/d/f")):
        assert where[outer]["x"] < where[inner]["x"]
        assert where[outer]["right"] > where[inner]["right"]
        assert where[outer]["y"] < where[inner]["y"]
        assert where[outer]["bottom"] > where[inner]["bottom"]
    chain = ["x", "/a/b", "/a/c", "/a/d/e", "/a/d/f", "g"]
    assert all(where[one]["bottom"] < where[other]["y"] for one, other in itertools.pairwise(chain))
    names = [name for name in where if name not in ("a", "d")]
    for one, other in itertools.combinations(names, 2):
        first, second = where[one], where[other]
        beside = first["right"] <= second["x"] or second["right"] <= first["x"]
        assert beside or first["bottom"] <= second["y"] or second["bottom"] <= first["y"]
    assert tab.locator("#graph path:not(.head)").count() == tab.locator("#graph path.head").count() > len(chain)
    assert opened.troubles == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_graph_is_used_by_keys_alone(browser: Any, file: Path, width: int, scheme: str) -> None:
    read = page.read_document(documents.conversion())
    model = documents.model(["/a/b", "/a/c", "g"])
    file.write_text(page.render(read, page.read_network(model, read.norms)), "utf-8")
    opened = Opened(browser, file, width, scheme)
    tab = opened.tab
    tab.click("#network-close")
    if width < 1000:
        tab.focus("#network-graph")
        tab.keyboard.press("Enter")
    assert "a" in boxes(tab)
    assert "/a/b" not in boxes(tab)
    name = "document.activeElement.item && document.activeElement.item.name"
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.evaluate(name) == "a" and tab.evaluate("document.activeElement.matches('#graph .box')"):
            break
    assert tab.evaluate(name) == "a"
    tab.keyboard.press("Enter")
    assert "/a/b" in boxes(tab)
    assert tab.evaluate(name) == "a"
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert tab.inner_text("#graph-told").startswith("a")
    tab.keyboard.press(" ")
    assert "/a/b" not in boxes(tab)
    assert opened.troubles == []


def test_more_rows_than_a_graph_holds_are_told(browser: Any, file: Path) -> None:
    file.write_text(html_of(documents.parity(), [f"/m{index // 50}/n{index}" for index in range(2000)]), "utf-8")
    opened = Opened(browser, file)
    opened.tab.click("#network-open")
    assert "too many for a picture" in opened.tab.inner_text("#graph")
    opened.tab.click("#network-close")
    assert opened.tab.locator("#graph .box").count() > 10
    assert opened.troubles == []


def test_twenty_thousand_nodes_open_and_fold(browser: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.reports.page.plots.can_plot", lambda: False)
    file.write_text(html_of(documents.parity(), [f"/m{index // 50}/n{index}" for index in range(20_000)]), "utf-8")
    opened = Opened(browser, file)
    opened.tab.click("#network-open")
    assert 1 < len(opened.rows()) <= 3000
    opened.tab.click("#network-close")
    assert opened.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_scheme_and_paper_is_light(browser: Any, file: Path, scheme: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[report]'")
    file.write_text(html_of(documents.parity()), "utf-8")
    tab = Opened(browser, file, scheme=scheme).tab
    read = page.read_document(documents.parity())
    drawn = page.draw_plots(read)[0]
    shows = "uri => document.querySelector('figure img').currentSrc === uri"
    tab.wait_for_function(shows, arg=getattr(drawn, scheme))
    tab.emulate_media(media="print", color_scheme=scheme)
    tab.wait_for_function(shows, arg=drawn.light)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.querySelector('figure img').naturalWidth") > 0
