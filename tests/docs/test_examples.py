"""The examples of `/docs` are those of the pages."""

import json
import re
from typing import Any

import pytest

from service.routes.documentation import ENCODER_EXAMPLES, examples
from tests.docs.pages import DOCS, ROOT

PAGES = ("api.md", "encoders.md", "tutorial.md", "typed-decisions.md")
ALL = {**examples(), **ENCODER_EXAMPLES}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    (path, {key: value for key, value in json.loads(body).items() if key != "model"})
    for page in (*map(DOCS.joinpath, PAGES), ROOT / "README.md")
    for path, body in re.findall(
        r"curl -sSN? http://127\.0\.0\.1:8000(/\S+)[^{]*-d '(\{.*?\n\})'",
        page.read_text(encoding="utf-8"),
        re.DOTALL,
    )
]


@pytest.mark.parametrize(("path", "title"), [(path, title) for path in ALL for title in ALL[path]])
def test_an_example_is_shown_in_the_documentation(path: str, title: str) -> None:
    bodies = [body for shown, body in SHOWN if _unversioned(shown) == _unversioned(path)]
    assert ALL[path][title] in bodies


def _unversioned(path: str) -> str:
    return re.sub(r"^/v\d", "", path)
