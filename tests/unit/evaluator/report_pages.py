"""What a browser would make of a page, told by the standard parser: elements, attributes, visible text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})
_SHAPES = frozenset({"rect", "line", "circle", "path", "polyline"})


@dataclass
class Page:
    """A parsed page. `elements` are (tag, attributes) in order; `hidden` is the text that stands in closed details."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    shown: str = ""
    """Text outside of closed `details`."""

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SHAPES, f"<{tag}/> closes itself in drawings only"
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> where </{self._open[-1]}> is due"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.page.text += data
            if "details" not in self._open or "summary" in self._open:
                self.page.shown += data

    def close(self) -> None:
        super().close()
        assert not self._open, f"never closed: {self._open}"


def read_page(html: str) -> Page:
    """Parse `html`; an assertion fails where its elements do not nest."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page


def assert_is_inert(html: str) -> None:
    """Nothing is fetched, run or submitted, and no character of the page hides or reorders others."""
    page = read_page(html)
    assert page.tags().isdisjoint(
        {"script", "iframe", "object", "embed", "img", "link", "form", "base", "input", "audio"}
    )
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"<{tag} {name}> would run"
            assert name not in {"style", "src", "srcset", "action", "background", "xlink:href"}, f"<{tag} {name}>"
            assert name != "href" or value.startswith("#"), f"<{tag}> leads away: {value[:40]}"
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    hiding = [
        c
        for c in html
        if (ord(c) < 0x20 and c not in "\n\t") or c in "\u202e\u202d\u2066\u2067\u2068\u2069\u200b\u200d\ufeff\x7f"
    ]
    assert hiding == []
    html.encode("utf-8")
