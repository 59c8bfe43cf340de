"""An HTML page as a tree of elements, for tests of pages."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID_TAGS = {"meta", "img", "br"}  # the elements without an end tag that our pages use


@dataclass
class Element:
    """One element with its attributes; children are elements or text."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in the element, as in the file."""
        return " ".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def words(self) -> str:
        """All text in the element, with single spaces."""
        return " ".join(self.text.split())

    def walk(self) -> Iterator["Element"]:
        """The element and all elements in it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags: str) -> list["Element"]:
        """The elements with one of these tags."""
        return [element for element in self.walk() if element.tag in tags]

    def by_class(self, name: str) -> list["Element"]:
        """The elements of the CSS class `name`."""
        return [
            element
            for element in self.walk()
            if name in (element.attributes.get("class") or "").split()
        ]

    def by_id(self, name: str) -> "Element":
        """The element with the id `name`."""
        return next(element for element in self.walk() if element.attributes.get("id") == name)

    def table(self) -> dict[str, list[str]]:
        """The words of the cells of each row but the first, keyed by the row's first cell."""
        rows = [[cell.words for cell in row.all("th", "td")] for row in self.all("tr")[1:]]
        return {row[0]: row[1:] for row in rows}


class Tree(HTMLParser):
    """Parse a page into `root`; fails where a tag is closed out of order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]
        self.feed(html)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID_TAGS:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)
