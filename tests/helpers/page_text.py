"""What a reader of a page sees, without a browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path


class PageText(HTMLParser):
    """Visible text of a page, its tags and addresses, and what its charts read out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.addresses, self._hidden = "", [], [], 0
        self.readouts: list[str] = []
        self.feed(html)

    @classmethod
    def read(cls, path: Path) -> PageText:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        self.readouts += [said for name, value in attrs if name == "data-points" for _, said in json.loads(value or "")]
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
