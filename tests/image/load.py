"""A few clients that send requests without a pause and remember every outcome."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.image.patience import SECONDS


class Load:
    """Clients in threads of their own, each one request after the other until the block ends.

    `url` returns the address for the next request.

    An outcome is `answered` for a whole answer of status 200, the error's code for another one,
    `refused` where no connection was made, and `lost` where one broke before the answer was whole.
    A client that is not answered pauses, as any client would.
    """

    def __init__(self, url: Callable[[], str], model: str, clients: int, tokens: int = 48) -> None:
        self._url = url
        body = {"model": model, "prompt": "The sea is", "max_tokens": tokens, "min_p": 0.0}
        self._body = json.dumps(body)
        self._numbers = itertools.count()
        self._outcomes: dict[int, str] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Return when so many more were answered; TimeoutError after ten minutes without one."""
        answered = self.outcomes()["answered"]
        wanted, since = answered + count, time.monotonic()
        while answered < wanted:
            if time.monotonic() > since + SECONDS:
                raise TimeoutError(f"no answer within {SECONDS} s: {dict(self.outcomes())}")
            time.sleep(0.05)
            before, answered = answered, self.outcomes()["answered"]
            if answered > before:
                since = time.monotonic()

    def running(self) -> list[int]:
        """The requests that are sent and not answered."""
        return [number for number, outcome in list(self._outcomes.items()) if outcome == "running"]

    def outcome(self, number: int) -> str:
        """Outcome of a request."""
        return self._outcomes[number]

    def outcomes(self) -> Counter[str]:
        """Requests by outcome."""
        return Counter(list(self._outcomes.values()))

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            outcome = self._ask(number)
            self._outcomes[number] = outcome
            if outcome != "answered":
                self._stop.wait(0.2)

    def _ask(self, number: int) -> str:
        address = urlsplit(self._url())
        host, port = address.hostname or "", address.port
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        try:
            connection.connect()
        except OSError:
            return "refused"
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/generate", self._body, headers)
            self._outcomes[number] = "running"
            answer = connection.getresponse()
            whole = json.load(answer)
            if answer.status != 200:
                return str(whole["error"]["code"])
            return "answered" if whole["outputs"][0]["finish_reason"] else "lost"
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return "lost"
        finally:
            connection.close()
