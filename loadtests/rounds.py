"""Several runs in a row: the probes of a search, the rounds of a comparison."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from string import ascii_lowercase

from loadtests.analysis.duel import Round
from loadtests.analysis.result import Exit, Result
from loadtests.launch import Launch
from loadtests.outputs import RESULT, read_result, read_round
from loadtests.search import Knee, RunFailed, find_knee


def probe_rates(
    launch: Launch, start: float, precision: float, tell: Callable[[str], None]
) -> tuple[Knee, list[Result]]:
    """Search for the knee with a run for each rate; also returns the results of valid probes.

    A rate passes when the objectives were met and nothing failed. Doomed probes end early. A run
    that is invalid, or leaves no result, ends the search: `Knee.stopped` says which.
    """
    results: list[Result] = []

    def passes(rate: float) -> bool:
        result = _run(_at(replace(launch, stop_when_doomed=True), rate, len(results)))
        verdict = result.verdict
        tell(f"{rate:.3g} requests/s: {verdict.status} {'; '.join(verdict.reasons)}")
        if verdict.exit_code == Exit.INVALID:
            raise RunFailed(f"at {rate:.3g} requests/s: {'; '.join(verdict.reasons)}")
        results.append(result)
        return verdict.exit_code == Exit.OK

    return find_knee(passes, start, precision), results


def sweep_rates(
    launch: Launch, rates: Sequence[float], tell: Callable[[str], None]
) -> tuple[Knee, list[Result]]:
    """Run every rate to its end, regardless of the other results; raises RunFailed."""
    knee = Knee()
    results: list[Result] = []
    for rate in rates:
        result = _run(_at(launch, rate, len(results)))
        tell(f"{rate:.3g} requests/s: {result.verdict.status} {'; '.join(result.verdict.reasons)}")
        results.append(result)
        knee.note(rate, result.verdict.exit_code == Exit.OK)
    return knee, results


def _at(launch: Launch, rate: float, number: int) -> Launch:
    overrides = (*launch.overrides, f"load.arrivals.rate={rate:.6g}", "load.steps=[1.0]")
    return replace(launch, out=launch.out / f"probe-{number:02}", overrides=overrides)


def fight(
    launches: Sequence[Launch],
    rounds: int,
    seed: int,
    tell: Callable[[str], None],
    alone: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> list[list[Round]]:
    """Run each round's plan against every server in random order; raises RunFailed.

    While the server at a position is measured, `alone` of the position keeps the others still.
    """
    order = Random(seed)
    found: list[list[Round]] = [[] for _ in launches]
    for number in range(rounds):
        for position in order.sample(range(len(launches)), len(launches)):
            launch, name = launches[position], ascii_lowercase[position]
            tell(f"round {number + 1}/{rounds}: {name} {launch.host}")
            out = launch.out / f"round-{number:02}-{name}"
            overrides = (*launch.overrides, f"seed={seed + number}")
            with alone(position):
                _run(replace(launch, out=out, overrides=overrides))
            found[position].append(read_round(out))
    return found


def finished_round(folder: Path) -> Round:
    """A finished run from its folder; raises RunFailed."""
    try:
        return read_round(folder)
    except (OSError, ValueError) as error:
        raise RunFailed(f"{folder}: holds no result: {error}") from error


def _run(launch: Launch) -> Result:
    (launch.out / RESULT).unlink(missing_ok=True)
    code = launch.run(quiet=True)
    if not (launch.out / RESULT).is_file():
        raise RunFailed(f"the run against {launch.host} left no result (exit code {code})")
    return read_result(launch.out)
