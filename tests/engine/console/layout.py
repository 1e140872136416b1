"""Layout of a view of the console, and what is wrong with another one of the same view.

A layout holds on every machine: fonts, models and figures differ, so it has the places of parts of
the page, and the colours of large blocks of the picture beside what is different each time.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from playwright.sync_api import Page

from tests.engine.console.views import View

IMAGES = Path("docs/images")
_FILE = IMAGES / "console-layout.json"

Box = Sequence[float]
"""Left, top, width and height in pixels."""

_HIDDEN: Box = (0, 0, 0, 0)
_BLOCK = 20
"""Pixels of a block's side."""
_COLOUR = 16
"""Difference of two blocks' mean colours, of 255, that a reader sees."""
_BLOCKS = 0.04
_FEW = 24
"""Share of the blocks, and number of blocks, that may differ."""
_SIDEWAYS = 0.015
"""Part of the window's width by which left edges and widths may differ."""
_DOWN = 0.06
"""Part of the distance from the top of the page, and at least 12 pixels, for top edges."""

_SCALE = """async ([png, columns, rows]) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const context = new OffscreenCanvas(columns, rows).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, columns, rows);
  return [...context.getImageData(0, 0, columns, rows).data];
}"""


@dataclass(frozen=True)
class Layout:
    """Boxes on the page by selector, and boxes in the window of what is different each time."""

    places: dict[str, Box]
    columns: dict[str, Box]
    content: list[Box]

    @classmethod
    def of(cls, page: Page, view: View) -> "Layout":
        """The layout of a page that shows the view."""
        scrolled: float = page.evaluate("scrollY")

        def boxes(selectors: Sequence[str]) -> dict[str, Box]:
            found = {selector: next(_boxes(page, selector), _HIDDEN) for selector in selectors}
            return {name: (x, y + scrolled, w, h) for name, (x, y, w, h) in found.items()}

        content = [box for selector in view.content for box in _boxes(page, selector)]
        return cls(boxes(view.places), boxes(view.columns), content)

    @classmethod
    def kept(cls, view: View) -> "Layout":
        """The layout of the picture in the documentation."""
        return cls(**json.loads(_FILE.read_text())[view.name])

    def moved(self, found: "Layout", view: View) -> list[str]:
        """Parts that are elsewhere in another layout of the view, each with both boxes."""
        aside = _SIDEWAYS * view.window["width"]
        wrong = []
        for name, (left, top, width, _) in {**self.places, **self.columns}.items():
            x, y, w, _ = box = {**found.places, **found.columns}[name]
            down = max(12, _DOWN * top) if name in self.places else float("inf")
            if abs(x - left) > aside or abs(w - width) > aside or abs(y - top) > down:
                wrong.append(f"{name}: {[left, top, width]} is now {[*box[:3]]}")
        return wrong


def picture(view: View) -> Path:
    """The picture of a view in the documentation."""
    return IMAGES / f"console-{view.name}.png"


def keep(page: Page, view: View) -> None:
    """Write the picture of a page that shows the view, and its layout."""
    page.screenshot(path=picture(view))
    layouts = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    layouts[view.name] = asdict(Layout.of(page, view))
    _FILE.write_text(json.dumps(layouts, indent=1) + "\n")


def wrong(page: Page, view: View) -> list[str]:
    """Differences from the documentation's picture that no font, model or figure makes."""
    kept, found = Layout.kept(view), Layout.of(page, view)
    content = [*kept.content, *found.content]
    faded = _faded(page, view, picture(view).read_bytes(), page.screenshot(), content)
    return [*kept.moved(found, view), *faded]


def _faded(
    shown: Page, view: View, kept: bytes, found: bytes, content: Sequence[Box]
) -> Iterator[str]:
    """The number of blocks beside the content that differ in two pictures, if they are many."""
    columns, rows = (view.window[side] // _BLOCK for side in ("width", "height"))
    browser = shown.context.browser
    assert browser is not None
    page = browser.new_page()  # without the console's policy
    try:
        before, after = (
            page.evaluate(_SCALE, [base64.b64encode(png).decode(), columns, rows])
            for png in (kept, found)
        )
    finally:
        page.close()
    blocks = [
        4 * (row * columns + column)
        for row, column in product(range(rows), range(columns))
        if not any(_covers(box, column, row) for box in content)
    ]
    differing = [
        place
        for place in blocks
        if max(abs(before[place + each] - after[place + each]) for each in range(3)) > _COLOUR
    ]
    if len(differing) > max(_FEW, _BLOCKS * len(blocks)):
        yield f"{len(differing)} of {len(blocks)} blocks have another colour"


def _boxes(page: Page, selector: str) -> Iterator[Box]:
    for each in page.locator(selector).all():
        if (box := each.bounding_box()) is not None:
            yield box["x"], box["y"], box["width"], box["height"]


def _covers(box: Box, column: int, row: int) -> bool:
    """True if a box touches a block."""
    left, top, width, height = box
    x, y = column * _BLOCK, row * _BLOCK
    return left < x + _BLOCK and x < left + width and top < y + _BLOCK and y < top + height
