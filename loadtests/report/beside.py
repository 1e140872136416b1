"""Interactive load without and with background work, as a table and a sentence."""

from loadtests.analysis.beside import Beside
from loadtests.report.groups import Table
from loadtests.report.wording import TOO_FEW, milliseconds, outcomes


def beside_table(beside: Beside) -> Table:
    """A row for each judged latency."""
    rows = [
        (
            each.name,
            milliseconds(each.alone),
            milliseconds(each.beside),
            TOO_FEW if each.ratio is None else f"{each.ratio:.2f}",
            f"{each.limit:g}",
        )
        for each in beside.ratios
    ]
    halves = ["alone", "beside"]
    if beside.rates is not None:
        halves = [f"beside {rate:g}/s" for rate in beside.rates]
    return ("ms", *halves, "ratio", "at most"), list(rows)


def background(beside: Beside) -> str:
    """Sentence on the work that was done in the background."""
    if beside.batch is not None:
        batch = beside.batch
        return (
            f"{beside.workload}: {batch.answered} of {batch.lines} lines answered once, "
            f"{beside.lines_per_s:.2f} lines/s beside the load; {batch.status or 'not made'}"
        )
    requests = beside.requests
    assert requests is not None
    came = requests.throughput
    return (
        f"{beside.workload}: {sum(requests.outcomes.values())} requests, beside the load "
        f"{came.answers_per_s:.2f} answers/s, {came.completion_tokens_per_s:.1f} output tokens/s; "
        f"not answered: {outcomes(requests)}"
    )
