"""Observations of requests: what is known while they run, and after each kind of end."""

from typing import Any

import pytest

from service.context import (
    Ending,
    RequestContext,
    Times,
    Tokens,
    internal_context,
)
from service.context.answer import Answer, FirstText
from service.errors import DeadlineExceeded, ServiceError
from service.plugins.rollouts.judge import LENGTHS, SCORES, observe

TEXT = FirstText(("positive",), score=0.8)
LATE: dict[str, Any] = {"ttft": None, "tpot": None, "e2e": None}


def request_of(
    route: str = "/v1/classify", answer: Answer | None = None, **fields: Any
) -> RequestContext:
    context = internal_context("test", 60.0)
    context.route = route
    context.extend(answer or Answer())
    for name, value in fields.items():
        setattr(context, name, value)
    return context


def hits(context: RequestContext, outcome: str | None, *missed: str) -> dict[str, Any] | None:
    """What is known after this end; None as the outcome is of a request that runs."""
    error = {"error": ServiceError(), "deadline": DeadlineExceeded()}.get(outcome or "")
    ending = None if outcome is None else Ending(outcome, 200, error)
    found = observe(context, ending, lambda *_: missed)
    return None if found is None else dict(found.hits)


@pytest.mark.parametrize("outcome", [None, "ok", "cancelled", "deadline", "error"])
def test_a_classification_counts_from_its_first_result_whatever_its_end(
    outcome: str | None,
) -> None:
    context = request_of(times=Times(first_token=0.1), answer=Answer(first_result=TEXT))
    found = hits(context, outcome)
    assert found is not None
    assert {name: found[name] for name in SCORES} == {
        "score 0.5": False,
        "score 0.7": False,
        "score 0.9": True,
        "score 0.99": True,
    }
    assert found["abstentions"] is False
    ending = None if outcome is None else Ending(outcome, 200)
    observation = observe(context, ending, lambda *_: ())
    assert observation is not None
    assert observation.labels == ("positive",)
    assert not found.keys() & LENGTHS.keys()
    failed = {None: False, "ok": False, "cancelled": None, "deadline": True, "error": True}
    assert found["errors"] is failed[outcome]


@pytest.mark.parametrize(
    ("outcome", "tokens", "found"),
    [
        (None, 0, (None, None)),
        ("ok", 10, (True, True)),
        ("ok", 40, (False, True)),
        ("cancelled", 10, (None, None)),
        ("cancelled", 40, (False, None)),
        ("error", 40, (False, None)),
    ],
)
def test_a_part_of_an_answer_tells_that_it_is_longer(
    outcome: str | None, tokens: int, found: tuple[Any, Any]
) -> None:
    times, used = Times(first_token=0.1), Tokens(completion=tokens)
    context = request_of("/v1/generate", times=times, tokens=used)
    known = hits(context, outcome)
    assert known is not None
    assert (known["length 16"], known["length 64"]) == found
    assert known.get("structure", "none") == ("none" if outcome == "ok" else None)


def test_a_structure_is_cut_if_an_answer_of_it_was() -> None:
    context = request_of(
        "/v1/generate", times=Times(first_token=0.1), answer=Answer(structure_cut=True)
    )
    assert [hits(context, each)["structure"] for each in ("ok", "cancelled")] == [True, True]  # type: ignore[index]
    context.extended(Answer).structure_cut = False
    assert [hits(context, each)["structure"] for each in ("ok", "cancelled")] == [False, None]  # type: ignore[index]


def test_latencies_that_a_client_cuts_short_are_known_only_if_they_were_missed() -> None:
    context = request_of(
        times=Times(first_token=0.1, decode_tokens=1), answer=Answer(first_result=TEXT)
    )
    ends: list[tuple[str | None, list[str], dict[str, Any]]] = [
        (None, [], LATE),
        ("ok", [], dict.fromkeys(LATE, False)),
        ("ok", ["ttft", "tpot"], {"ttft": True, "tpot": True, "e2e": False}),
        ("cancelled", [], LATE | {"ttft": False}),
        ("cancelled", ["ttft", "tpot", "e2e"], {"ttft": True, "tpot": None, "e2e": True}),
        ("error", [], LATE),
    ]
    for outcome, missed, known in ends:
        found = hits(context, outcome, *missed)
        assert found is not None
        assert {name: found[name] for name in LATE} == known
    context.become_flex()
    flex = hits(context, "ok")
    assert flex is not None
    assert not LATE.keys() & flex.keys()


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        ("cancelled", None),
        ("refused", None),
        ("error", {"errors": True, "invalid": False}),
        ("deadline", {"errors": True, "invalid": False}),
        ("invalid", {"errors": False, "invalid": True}),
    ],
)
def test_a_request_that_never_began_counts_only_if_it_failed_or_was_invalid(
    outcome: str, found: dict[str, Any] | None
) -> None:
    assert hits(request_of(), outcome) == found


def test_a_first_text_that_failed_is_an_error() -> None:
    found = hits(request_of(answer=Answer(first_result=FirstText(failed=True))), "ok")
    assert found is not None
    assert found["errors"] is True
    assert not SCORES.keys() & found.keys()


def test_a_route_without_engine_work_is_not_judged() -> None:
    assert hits(request_of("/v1/tokenize", times=Times(first_token=0.1)), "ok") is None
