"""A page as the standard library's HTML parser sees it: elements with their attributes, and text outside of code."""

from __future__ import annotations

from html.parser import HTMLParser

_EMPTY = {"meta", "input", "img", "source", "line", "path", "br"}


class Parsed(HTMLParser):
    """Every element in order, all text that a reader sees, and the contents of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.code: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag in ("script", "style"):
            self.code.append((tag, attributes, data))
        else:
            self.text.append(data)

    @property
    def open_elements(self) -> list[str]:
        """What was never closed."""
        return [tag for tag, _ in self._open]

    @property
    def shown(self) -> str:
        """All text, blanks as one."""
        return " ".join(" ".join(self.text).split())
