"""A batch in the background of a run: sent when its stage begins, and followed to its end."""

from collections.abc import Callable

import gevent

from loadtests.analysis.batch_outcome import BatchOutcome
from loadtests.batches import ENDED, BatchClient, BatchFailed
from loadtests.protocol.api import Request

_LOOK_S = 1.0


class FollowedBatch:
    """One batch of these requests; `outcome` is what is known of it so far.

    `now` tells the seconds from the start of the run, `start` those at which the batch is sent.
    """

    def __init__(
        self,
        client: BatchClient,
        requests: list[Request],
        start: float,
        now: Callable[[], float],
    ) -> None:
        self.outcome = BatchOutcome(lines=len(requests), began=start)
        self._client = client
        self._requests = requests
        self._start = start
        self._now = now
        self._id = ""
        self._stopped = False
        self._follower: gevent.Greenlet | None = None

    @property
    def over(self) -> bool:
        """True once the batch has ended or was lost; meanwhile begins it when it is due."""
        if self._follower is None and self._now() >= self._start:
            self._follower = gevent.spawn(self._follow)
        return self._follower is not None and bool(self._follower.ready())

    def stop(self) -> None:
        """Stop following, and cancel a batch that has not ended; one that is sent is made first."""
        if self._follower is None or self._follower.ready():
            return
        self._stopped = True
        self._follower.join()
        if self._id and self.outcome.status not in ENDED:
            try:
                self._client.cancel(self._id)
            except BatchFailed as error:
                self.outcome.error = str(error)

    def _follow(self) -> None:
        outcome = self.outcome
        try:
            outcome.began = self._now()
            self._id = self._client.create(self._requests)
            while outcome.status not in ENDED:
                if self._stopped:
                    return
                gevent.sleep(_LOOK_S)
                batch = self._client.look(self._id)
                outcome.status = batch["status"]
                outcome.done.append((round(self._now(), 2), batch["request_counts"]["completed"]))
            outcome.ended = self._now()
            found = self._client.answers(batch)
        except BatchFailed as error:
            outcome.error = str(error)
            return
        except KeyError as error:
            outcome.error = f"an answer about the batch has no {error}"
            return
        outcome.answered = sum(count == 1 for count in found.values())
        outcome.repeated = sum(count > 1 for count in found.values())
