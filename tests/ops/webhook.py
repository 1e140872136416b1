"""Webhook to which Alertmanager delivers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Deliveries:
    """The last delivery of each alert: `firing` or `resolved`, and the receiver."""

    def __init__(self) -> None:
        self.url = ""
        self.alerts: dict[str, dict[str, Any]] = {}
        self.fired: set[str] = set()

    def take(self, receiver: str, message: dict[str, Any]) -> None:
        """Remember a delivery."""
        for alert in message["alerts"]:
            name = alert["labels"]["alertname"]
            self.alerts[name] = alert | {"receiver": receiver}
            if alert["status"] == "firing":
                self.fired.add(name)

    def status(self, name: str) -> str:
        """`firing`, `resolved`, or `silent` while nothing came."""
        return str(self.alerts.get(name, {"status": "silent"})["status"])


@contextmanager
def webhook() -> Iterator[Deliveries]:
    """A receiver of webhooks on the loopback."""
    deliveries = Deliveries()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            deliveries.take(self.path.strip("/"), json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log no line; the deliveries are recorded instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    deliveries.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield deliveries
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
