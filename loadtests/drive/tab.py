"""Our tab in Locust's web UI: live latencies of tokens, by stage, tenant and model."""

import json

from flask import Response, request
from locust.env import Environment

from loadtests.analysis.live import COLUMNS, live_rows
from loadtests.drive.driver import Driver

_KEY = "llm"


def add_tab(environment: Environment, driver: Driver) -> None:
    """Add the tab's table to the web UI's pages, and its rows to the statistics that they fetch."""
    ui = environment.web_ui
    structure = [{"key": key, "title": title} for key, title in COLUMNS.items()]
    ui.template_args |= {
        "extended_tabs": [{"title": "LLM", "key": _KEY}],
        "extended_tables": [{"key": _KEY, "structure": structure}],
    }

    def extend(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            run = driver.watched
            rows = live_rows(run.of_load(), driver.objectives) if run is not None else []
            tree = {**response.get_json(), "extended_stats": [{"key": _KEY, "data": rows}]}
            response.set_data(json.dumps(tree))
        return response

    ui.app.after_request(extend)
