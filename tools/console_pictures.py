"""Pictures of the console in docs/images, taken in headless Chromium: `make console-pictures`.

Serves the local configuration with two tenants, a release and two batches, uses every view as a
person would, and overloads the service before the picture of the live view. The layouts of the
pictures are kept beside them, for the tests.
"""

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.served.server import running_server
from tools.browser import launch_options
from tools.command_line import command_line
from tools.console_layout import keep, picture
from tools.console_service import SHARES, TENANT, configuration, make_batch, overload
from tools.console_views import VIEWS, Subject
from tools.keys import key_of

_SECONDS = 300
_LOAD_SECONDS = 120
_LINES = 400
"""Lines of each batch, which takes longer than the pictures."""
_USAGE_SECONDS = 2
"""Time after which usage is written."""


def main() -> int:
    """Take all pictures."""
    expect.set_options(timeout=1000 * _SECONDS)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        with running_server(Path(name), configuration(Path(name))) as server:
            subject = Subject(server, key_of(TENANT), "sentiment")
            *others, live = VIEWS
            for tenant in SHARES:
                make_batch(server, tenant, _LINES)
            for view in others:
                time.sleep(_USAGE_SECONDS)
                keep(view.opened(browser, subject), view)
                print(picture(view), flush=True)
            with overload(server):
                page = live.opened(browser, subject)
                page.wait_for_timeout(1000 * _LOAD_SECONDS)
                keep(page, live)
                print(picture(live), flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    command_line("tools.console_pictures", __doc__).parse_args()
    sys.exit(main())
