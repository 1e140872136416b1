"""A client of OpenAI's files and batches, from the upload to the results."""

import json
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.protocol.answer import MalformedAnswer, parse
from loadtests.protocol.api import Request

_TIMEOUT_S = 60.0
_SAID = 300

ENDED = {"completed", "failed", "expired", "cancelled"}


class BatchFailed(Exception):
    """A call about a batch failed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class BatchClient:
    """One tenant's access to a server's batches; every call raises BatchFailed."""

    host: str
    headers: Mapping[str, str]

    def create(self, requests: Sequence[Request]) -> str:
        """Upload requests to one path as a file, a line each, and create the batch."""
        endpoint = requests[0].path
        lines = (
            {"custom_id": str(number), "method": "POST", "url": endpoint, "body": request.body}
            for number, request in enumerate(requests)
        )
        content, kind = _form("".join(json.dumps(line) + "\n" for line in lines))
        file = self._object("POST", "/v1/files", content, kind)
        asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        body = json.dumps(asked).encode()
        return str(self._object("POST", "/v1/batches", body, "application/json")["id"])

    def look(self, batch: str) -> dict[str, Any]:
        """The batch's present state."""
        return self._object("GET", f"/v1/batches/{batch}")

    def cancel(self, batch: str) -> None:
        """Cancel the batch."""
        self._call("POST", f"/v1/batches/{batch}/cancel", b"")

    def answers(self, batch: Mapping[str, Any]) -> Counter[str]:
        """The number of successful answers to each line, by its `custom_id`."""
        return Counter(
            str(line["custom_id"])
            for line in self._lines(batch["output_file_id"])
            if line["response"]["status_code"] == 200
        )

    def _lines(self, file: str | None) -> Iterator[dict[str, Any]]:
        if file is not None:
            yield from map(json.loads, self._call("GET", f"/v1/files/{file}/content").splitlines())

    def _object(
        self, method: str, path: str, body: bytes | None = None, kind: str = ""
    ) -> dict[str, Any]:
        try:
            return parse(self._call(method, path, body, kind))
        except MalformedAnswer as error:
            raise BatchFailed(f"{method} {path}: {error}") from error

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {**self.headers, **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(f"{self.host}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:_SAID]
            raise BatchFailed(f"{method} {path}: {error.code} {said}") from error
        except OSError as error:
            raise BatchFailed(f"{method} {path}: {error}") from error


def _form(file: str) -> tuple[bytes, str]:
    """A file for a batch as multipart/form-data, and its content type."""
    edge = uuid.uuid4().hex
    parts = (
        'name="purpose"\r\n\r\nbatch',
        f'name="file"; filename="lines.jsonl"\r\n\r\n{file}',
    )
    text = "".join(f"--{edge}\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    return f"{text}--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"
