"""Pictures of the console in docs/images, taken in headless Chromium: `make console-pictures`.

Serves the local configuration with two tenants, a release and two batches, uses every view as a
person would, and overloads the service before the picture of the live view. The layouts of the
pictures are kept beside them, for test_layout.
"""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.engine.console.layout import keep, picture
from tests.engine.console.pictured import SHARES, TENANT, configuration, make_batch, overload
from tests.engine.console.views import VIEWS, Subject
from tests.served.server import running_server
from tools.keys import key_of

pytestmark = pytest.mark.pictures

_SECONDS = 300
_LOAD_SECONDS = 120
_LINES = 400
"""Lines of each batch, which takes longer than the pictures."""
_USAGE_SECONDS = 2
"""Time after which usage is written."""


def test_every_view_has_a_picture(chromium: Browser, tmp_path: Path) -> None:
    expect.set_options(timeout=1000 * _SECONDS)
    with running_server(tmp_path, configuration(tmp_path), afresh=True) as server:
        subject = Subject(server, key_of(TENANT), "sentiment")
        *others, live = VIEWS
        for tenant in SHARES:
            make_batch(server, tenant, _LINES)
        for view in others:
            time.sleep(_USAGE_SECONDS)
            keep(view.opened(chromium, subject), view)
            print(picture(view), flush=True)
        with overload(server):
            page = live.opened(chromium, subject)
            page.wait_for_timeout(1000 * _LOAD_SECONDS)
            keep(page, live)
            print(picture(live), flush=True)
