"""Prints what Alertmanager delivers, a line for each alert: time, receiver, state, name and labels.

    python receiver.py [PORT]

PORT is 9099 by default. A body above a mebibyte is refused with 413, one that is none of
Alertmanager's with 400.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 9099
LONGEST = 2**20


class Receiver(BaseHTTPRequestHandler):
    """The webhooks; the last part of the path is the receiver's name."""

    timeout = 10

    def do_POST(self) -> None:
        """Print the alerts of a delivery."""
        try:
            length = int(self.headers["Content-Length"])
            if not 0 <= length <= LONGEST:
                self.send_error(413)
                return
            alerts = json.loads(self.rfile.read(length))["alerts"]
            lines = [line(self.path, alert) for alert in alerts]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.send_error(400)
            return
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the alerts alone are printed."""


def line(path: str, alert: dict[str, Any]) -> str:
    """An alert as a line."""
    labels = dict(alert["labels"])
    name, told = labels.pop("alertname"), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    summary = alert.get("annotations", {}).get("summary", "")
    return f"{told} {path.strip('/')} {alert['status']} {name} {said}: {summary}\n"


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    ThreadingHTTPServer(("", port), Receiver).serve_forever()
