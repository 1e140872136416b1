"""Variants of `bench`, with scripted servers in the place of engines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests import variants
from loadtests.launch import Launch
from loadtests.load.plan import Plan
from loadtests.load.scenario import load_scenario
from loadtests.peers import ENCODER, MODEL, Server, flag
from loadtests.protocol.apis import open_api
from loadtests.variants import ADAPTERS, VARIANTS, started
from service.plugins.rollouts.settings import ReleaseSettings

LABEL_IDS = [7, 9]
DIGEST = "sha256:" + 64 * "0"


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Servers that were started, each with its settings; none is."""
    begun: list[tuple[str, dict[str, Any]]] = []

    def stand_in(kind: str) -> Any:
        @contextmanager
        def start(folder: Path | None = None, **settings: Any) -> Iterator[Server]:
            begun.append((kind, settings))
            yield Server(f"http://{kind}-{len(begun)}", "", None)  # type: ignore[arg-type]

        return start

    monkeypatch.setattr(variants, "ours", stand_in("service"))
    monkeypatch.setattr(variants, "theirs", stand_in("vllm"))
    monkeypatch.setattr(variants, "infinity", stand_in("infinity"))
    monkeypatch.setattr(variants, "llama_cpp", stand_in("llama.cpp"))
    monkeypatch.setattr(variants, "_label_ids", lambda model: LABEL_IDS)
    monkeypatch.setattr(variants, "_write_adapters", lambda model, folder, version: None)
    monkeypatch.setattr(variants, "_digest", lambda source: DIGEST)
    return begun


def launches(name: str) -> list[Launch]:
    variant = VARIANTS[name]
    with started(variant, Launch(variant.scenario, ""), Path("model")) as sides:
        return [launch for _, launch in sides]


def test_sides_with_the_same_settings_share_a_server(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    hosts = [launch.host for launch in launches("classify")]
    assert [kind for kind, _ in servers] == ["service", "vllm"]
    assert hosts == ["http://service-1", *["http://vllm-2"] * 3]


def test_all_servers_get_the_arguments_of_the_engine_that_are_given(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    engine = {"enforce_eager": False, "max_num_seqs": 256}
    for name in ("vllm", "adapters"):
        with started(VARIANTS[name], Launch("streams", ""), Path("model"), engine):
            pass
    given = [settings["engine"] for _, settings in servers]
    assert [engine.items() <= each.items() for each in given] == [True] * 5
    assert [flag(*item) for item in engine.items()] == ["--no-enforce-eager", "--max-num-seqs=256"]


def test_an_encoder_is_served_by_its_name_and_arguments(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    given = launches("embed")
    assert [kind for kind, _ in servers] == ["service", "vllm", "infinity"]
    assert [settings["model"] for _, settings in servers] == [ENCODER] * 3
    assert [(launch.model, launch.api) for launch in given] == [
        (ENCODER.name, "native"),
        (ENCODER.name, "openai-chat"),
        (ENCODER.name, "openai-chat"),
    ]


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [("decode", ["service", "vllm", "llama.cpp"]), ("quantised", ["service", "vllm"] * 2)],
)
def test_decoding_is_compared_by_the_same_chats(
    variant: str,
    kinds: list[str],
    servers: list[tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    monkeypatch.setattr("training.quantise.quantise_model", lambda *to: made.append(to))
    given = launches(variant)
    assert [kind for kind, _ in servers] == kinds
    assert {launch.api for launch in given} == {"openai-chat"}
    assert len({launch.host for launch in given}) == len(kinds)
    assert len(made) == (variant == "quantised")


@pytest.mark.parametrize(("variant", "tier"), [("background", "flex"), ("crowd", None)])
def test_both_servers_are_asked_the_same_chats(
    variant: str, tier: str | None, servers: list[tuple[str, dict[str, Any]]]
) -> None:
    bodies = []
    for launch in launches(variant):
        scenario = load_scenario(launch.scenario, launch.overrides)
        plan, api = Plan(scenario, MODEL), open_api(launch.api, scenario)
        calls = [plan.call(plan.closed_arrival(user, 0, 0.0)) for user in range(500)]
        bodies.append([api.request(call).body for call in calls])
    assert [kind for kind, _ in servers] == ["service", "vllm"]
    ours, theirs = bodies
    assert ours == theirs
    assert {body.get("service_tier") for body in ours} == {tier}


def test_adapters_are_beside_the_base_alone_and_the_same_requests(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    plans = [
        Plan(load_scenario(each.scenario, each.overrides), MODEL) for each in launches("adapters")
    ]
    assert [settings.get("cpu") for _, settings in servers] == [
        None,
        None,
        {"grouped_adapters": False},
    ]
    assert [len(settings.get("adapters", ())) for _, settings in servers] == [0, 4, 4]
    calls = [[plan.call(plan.closed_arrival(u, 0, 0.0)) for u in range(32)] for plan in plans]
    models = [{call.model for call in called} for called in calls]
    assert models == [{MODEL}, set(ADAPTERS), set(ADAPTERS)]
    assert len({tuple(call.messages for call in called) for called in calls}) == 1


def test_each_adapter_is_released_beside_the_same_adapters_without_a_release(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    alone, shadowed = launches("shadow")
    assert alone.overrides == shadowed.overrides
    (_, without), (_, beside) = servers
    assert without["adapters"] == beside["adapters"]
    assert "releases" not in without
    found = ReleaseSettings.model_validate(beside["releases"])
    assert found.plans.keys() == set(ADAPTERS)
    assert {plan.shadow and plan.shadow.share for plan in found.plans.values()} == {0.2}


def test_every_way_to_classify_is_given_the_same_prompts(
    servers: list[tuple[str, dict[str, Any]]],
) -> None:
    prompts = []
    for launch in launches("classify"):
        scenario = load_scenario(launch.scenario, launch.overrides)
        plan = Plan(scenario, MODEL)
        call = plan.call(plan.closed_arrival(0, 0, 0.0))
        body = open_api(launch.api, scenario).request(call).body
        match launch.api:
            case "native":
                assert "instruction" not in body
                prompts.append(body["template"].replace("{input}", body["input"][0]))
            case "vllm-scoring":
                assert body["label_token_ids"] == LABEL_IDS
                prompts.append(body["query"] + body["items"][0])
            case _:
                assert ("structured_outputs" in body) == (launch.api == "openai-completions")
                prompts += body["prompt"]
    assert len(prompts) == 4
    assert len(set(prompts)) == 1
    assert prompts[0].startswith("Review: ")
    assert prompts[0].endswith("\nSentiment:")
