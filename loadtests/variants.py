"""Variants of `bench`: the servers of each, their scenario and their start."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from loadtests.launch import Launch
from loadtests.peers import (
    ENCODER,
    LANGUAGE_MODEL,
    Model,
    Server,
    infinity,
    llama_cpp,
    ours,
    theirs,
)
from loadtests.protocol.api import ApiName

ADAPTERS = ("first", "second", "third", "fourth")
NEXT = "next"
"""Folder of the adapters' next versions."""
_QUANTISED = "w8a8"
_RANK = 8

ServerName = Literal["service", "vllm", "infinity", "llama.cpp"]


@dataclass(frozen=True)
class Side:
    """One server of a variant: its name in results, its settings beside the engine's, its API.

    With `adapters` it serves four random adapters, which its requests use in turn; `shadow` is the
    share of requests that a next version with the same weights answers too. With `quantised` the
    model has weights of 8 bits. Sides with the same server, model and settings share a process.
    """

    name: str
    server: ServerName = "service"
    api: ApiName = "native"
    settings: Mapping[str, Any] = field(default_factory=dict)
    adapters: bool = False
    shadow: float = 0.0
    label_ids: bool = False
    quantised: bool = False


@dataclass(frozen=True)
class Variant:
    """Servers of one model that are compared with the first of them, on a scenario.

    `made` is a model that is made from the folder: an encoder with a random head of two labels, or
    a random Qwen3 with the folder's tokenizer.
    """

    scenario: str
    sides: tuple[Side, ...]
    overrides: tuple[str, ...] = ()
    model: Model = LANGUAGE_MODEL
    made: Literal["head", "qwen3"] | None = None


# The API that both have, so that the bodies are the same; vLLM ignores `service_tier`.
_SAME_BODIES = (
    Side("this service", api="openai-chat"),
    Side("vllm serve", "vllm", api="openai-chat"),
)

VARIANTS: dict[str, Variant] = {
    "vllm": Variant(
        "baseline", (Side("this service"), Side("vllm serve", "vllm", api="openai-chat"))
    ),
    "queue": Variant(
        "overload",
        (
            *_SAME_BODIES,
            Side(
                "vllm, bounded",
                "vllm",
                api="openai-chat",
                # The 32 sequences that run, and eight that wait.
                settings={"engine": {"max_num_queued_reqs": 40}},
            ),
        ),
    ),
    "background": Variant("background", _SAME_BODIES),
    "crowd": Variant("crowd", _SAME_BODIES),
    "decode": Variant(
        "decode",
        (
            *_SAME_BODIES,
            Side("llama.cpp", "llama.cpp", api="openai-chat"),
        ),
    ),
    "quantised": Variant(
        "decode",
        (
            *_SAME_BODIES,
            Side("this service, 8 bits", api="openai-chat", quantised=True),
            Side("vllm serve, 8 bits", "vllm", api="openai-chat", quantised=True),
        ),
    ),
    "adapters": Variant(
        "streams",
        (
            Side("base alone"),
            Side("4 adapters", adapters=True),
            Side(
                "4 adapters, vLLM's operators",
                settings={"cpu": {"grouped_adapters": False}},
                adapters=True,
            ),
        ),
    ),
    "shadow": Variant(
        "shadow",
        (
            Side("without a shadow", adapters=True),
            Side("in the shadow", adapters=True, shadow=0.2),
        ),
    ),
    "classify": Variant(
        "reads",
        (
            Side("this service"),
            Side("vLLM scoring", "vllm", api="vllm-scoring", label_ids=True),
            Side("vLLM logprobs", "vllm", api="vllm-logprobs"),
            Side("vLLM choice", "vllm", api="openai-completions"),
        ),
    ),
    "embed": Variant(
        "embeddings",
        (
            Side("this service"),
            Side("vllm serve", "vllm", api="openai-chat"),
            Side("infinity", "infinity", api="openai-chat"),
        ),
        model=ENCODER,
    ),
    "head": Variant(
        "embeddings",
        (Side("this service"), Side("vllm serve", "vllm", api="vllm-pooling")),
        overrides=("name=head", "workloads.0.kind=classify"),
        model=ENCODER,
        made="head",
    ),
    "decisions": Variant(
        "decisions",
        (
            Side("this service", api="systemone"),
            Side("vllm serve", "vllm", api="systemone"),
        ),
        made="qwen3",
    ),
}


@contextmanager
def started(
    variant: Variant,
    launch: Launch,
    folder: Path | None = None,
    engine: Mapping[str, Any] | None = None,
) -> Iterator[list[tuple[Server, Launch]]]:
    """Start a variant's servers;

    returns each side's server, and the run that loads it. `folder` replaces the variant's model;
    `engine` are vLLM engine arguments for all servers, which override those of the variant's model.
    """
    folder = folder or variant.model.folder
    engine = engine or {}
    running: dict[str, Server] = {}
    with ExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if any(side.adapters for side in variant.sides):
            _write_adapters(folder, made, "1.0.0")
        if any(side.shadow for side in variant.sides):
            _write_adapters(folder, made / NEXT, "1.1.0")
        if variant.made is not None:
            folder = _write_model(variant.made, folder, made)
        quantised = made / _QUANTISED
        if any(side.quantised for side in variant.sides):
            # By name, as the service's other modules here.
            import_module("training.quantise").quantise_model(folder, quantised)
        found = []
        for side in variant.sides:
            weights = quantised if side.quantised else folder
            settings = dict(side.settings) | (_serving(made, side.shadow) if side.adapters else {})
            settings["engine"] = {**settings.get("engine", {}), **engine}
            key = json.dumps([side.server, side.quantised, settings])
            if key not in running:
                running[key] = stack.enter_context(
                    _server(side.server, weights, variant.model, settings)
                )
            found.append((running[key], _launch(launch, variant, side, running[key], folder)))
        yield found


def _server(
    name: ServerName, folder: Path, model: Model, settings: Mapping[str, Any]
) -> AbstractContextManager[Server]:
    match name:
        case "service":
            return ours(folder, model=model, **settings)
        case "vllm":
            return theirs(folder, model=model, engine=settings["engine"])
        case "infinity":
            return infinity(folder, model=model)
        case "llama.cpp":
            return llama_cpp(model=model, engine=settings["engine"])


def _launch(launch: Launch, variant: Variant, side: Side, server: Server, folder: Path) -> Launch:
    overrides = list(variant.overrides)
    if any(each.adapters for each in variant.sides):
        names = list(ADAPTERS) if side.adapters else [variant.model.name] * len(ADAPTERS)
        overrides.append(f"adapters={json.dumps({'choice': 'uniform', 'names': names})}")
    if side.label_ids:
        overrides.append(f"workloads.0.extra.label_token_ids={_label_ids(folder)}")
    return replace(
        launch,
        host=server.url,
        api=side.api,
        model=variant.model.name,
        metrics_url=server.metrics_url,
        overrides=(*overrides, *launch.overrides),
    )


def _write_adapters(model: Path, folder: Path, version: str) -> None:
    from loadtests.random_adapters import write

    write(ADAPTERS, _RANK, model, folder, version)


def _write_model(kind: str, source: Path, folder: Path) -> Path:
    writer = import_module(f"loadtests.random_{kind}")
    writer.write(source, folder / kind)
    return folder / kind


def _label_ids(model: Path) -> list[int]:
    """First tokens of the labels of `reads` as they follow its template."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return [tokenizer.encode(label).ids[0] for label in (" positive", " negative")]


def _serving(folder: Path, shadow: float) -> dict[str, Any]:
    served: dict[str, Any] = {
        "engine": {"max_loras": len(ADAPTERS), "max_lora_rank": _RANK},
        "adapters": [{"source": str(folder / name)} for name in ADAPTERS],
        "adapter_cache": {"path": str(folder / "cache")},
    }
    if shadow:
        plans = {name: _shadowed(folder / NEXT / name, shadow) for name in ADAPTERS}
        served["engine"]["max_loras"] *= 2
        served["releases"] = {"path": str(folder / "releases"), "plans": plans}
    return served


def _shadowed(source: Path, share: float) -> dict[str, Any]:
    """A release that stays in its shadow."""
    return {
        "source": str(source),
        "digest": _digest(source),
        "sticky": "request",
        "shadow": {"requests": 10_000_000, "share": share},
        "canary": [{"share": 0.5, "requests": 1}],
    }


def _digest(source: Path) -> str:
    # By name, because the image of the load tests, which starts no server, has no service.
    manifests = import_module("service.adapters.manifest_yaml")
    return str(manifests.load_manifest(source).digest)
