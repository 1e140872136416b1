"""Outcome of a batch that was sent beside a load."""

from pydantic import BaseModel, ConfigDict


class BatchOutcome(BaseModel):
    """State of a batch at the end of a run, and what its files hold; times in seconds of the run.

    `answered` counts lines with one answer, `repeated` those with several; `done` are points of
    the server's own count of answered lines. `error` says why the batch could not be followed.
    """

    model_config = ConfigDict(extra="forbid")

    lines: int
    began: float
    status: str = ""
    ended: float | None = None
    answered: int = 0
    repeated: int = 0
    done: list[tuple[float, int]] = []
    error: str = ""

    def failures(self) -> list[str]:
        """Reasons why not every line was answered exactly once."""
        if self.error:
            return [f"the batch could not be followed: {self.error}"]
        if self.status != "completed":
            return [f"the batch is {self.status or 'not made'} at the end of the run"]
        found = []
        if self.answered + self.repeated < self.lines:
            missing = self.lines - self.answered - self.repeated
            found.append(f"{missing} of {self.lines} lines of the batch have no answer")
        if self.repeated:
            found.append(f"{self.repeated} lines of the batch have several answers")
        return found

    def lines_per_s(self, until: float) -> float:
        """Answered lines per second, from the beginning to `until`, or to an earlier end."""
        last = until if self.ended is None else min(until, self.ended)
        before = [count for at, count in self.done if at <= last]
        return max(before, default=0) / max(last - self.began, 1e-9)
