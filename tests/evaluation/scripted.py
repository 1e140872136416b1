"""An OpenAI-compatible service that is not this one: a list of models, and scripted answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = Callable[[str, dict[str, Any]], tuple[int, dict[str, str], Any]]
"""Path and body to status, headers and body."""


@contextmanager
def scripted(answer: Answer, *, lists_models: bool = True) -> Iterator[str]:
    """The address of a service that answers every POST by the script."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if lists_models:
                self._send(200, {}, {"data": [{"id": "other"}]})
            else:
                self._send(404, {}, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(*answer(self.path, body))

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its own."""

        def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
            content = json.dumps(body).encode()
            with suppress(ConnectionError):  # the client may be interrupted
                self.send_response(status)
                shape = {"content-type": "application/json", "content-length": str(len(content))}
                for name, value in (headers | shape).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
