"""The first requests to engines that others run: what they serve, and what they take."""

import asyncio
import logging
import time

from service.engine.contract import Job, LabelQuery, Sampling, Structure
from service.errors import ConfigurationError, InvalidRequest, ServiceError
from service.settings.remote import RemoteSettings
from service.vllm.remote.adapters import model_cards
from service.vllm.remote.engine import COMPLETIONS
from service.vllm.remote.http_client import HttpEngines
from service.vllm.remote.wire import Decode, Taken, job_body, labels_of, read_body

_log = logging.getLogger(__name__)

_TOKENS = 8
_EVERY_S = 1.0
_PROMPT = tuple(range(6, 14))
_CHOICE = ("yes", "no")


async def wait_for(http: HttpEngines, settings: RemoteSettings, name: str, longest: int) -> None:
    """Wait until the engines list the model.

    Raises ConfigurationError if they do not in time, list others, or have a smaller context.
    """
    deadline = time.monotonic() + settings.wait_s
    while True:
        try:
            cards = await model_cards(http)
            break
        except ServiceError as error:
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"remote.url: no list of models from {http.url} within {settings.wait_s:g} s: "
                    f"{error.message}"
                ) from error
        await asyncio.sleep(_EVERY_S)
    found = next((each for each in cards if each["id"] == name), None)
    if found is None:
        names = ", ".join(str(each["id"])[:80] for each in cards[:8]) or "nothing"
        raise ConfigurationError(f"remote.model: {name!r} is not served there, only {names}")
    context = found.get("max_model_len")
    if isinstance(context, int) and context < longest:
        raise ConfigurationError(
            f"engine.max_model_len: must be at most the engines' own {context}, got {longest}"
        )


async def tried(http: HttpEngines, name: str, decode: Decode) -> Taken:
    """Try each kind of work once.

    Raises ConfigurationError if the engines cannot generate for this service, or have another
    tokenizer than the model's folder.
    """
    try:
        priority = await _answers(http, name, decode, priority=True)
        if not priority and not await _answers(http, name, decode, priority=False):
            raise ConfigurationError("remote.url: the engines refuse a plain generation")
        labels = await _reads_labels(http, name)
        structures = await _keeps_to_choice(http, name)
    except ServiceError as error:
        raise ConfigurationError(
            f"remote.url: a first request to the engines failed: {error.message}"
        ) from error
    return Taken(priority, labels, structures)


async def _answers(http: HttpEngines, name: str, decode: Decode, *, priority: bool) -> bool:
    """True if a generation is answered with the tokens that this service needs."""
    job = _job(Sampling(_TOKENS, temperature=0.0, ignore_eos=True), 1)
    try:
        answer = await http.post(COMPLETIONS, job_body(job, name, priority=priority, stream=False))
    except InvalidRequest:
        return False
    try:
        (choice,) = answer["choices"]
        text, token_ids = choice["text"], [int(each) for each in choice["token_ids"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "remote.url: the answers there have no `token_ids`; a server of vLLM's is needed, and "
            "a router that passes `return_token_ids` on"
        ) from error
    special = decode(token_ids)
    if text.strip() and text.strip() not in special and "\N{REPLACEMENT CHARACTER}" not in special:
        raise ConfigurationError(
            "remote.url: the engines have another tokenizer than the folder of `model.path`"
        )
    return True


async def _reads_labels(http: HttpEngines, name: str) -> bool:
    query = LabelQuery(_PROMPT, (0, 1), cache_salt="probe")
    try:
        labels_of(await http.post(COMPLETIONS, read_body(query, name, priority=False)), query)
    except ServiceError as error:
        _log.debug("remote: no label read: %s", error)
        return False
    return True


async def _keeps_to_choice(http: HttpEngines, name: str) -> bool:
    """True if a structure is enforced from the first token on."""
    job = _job(Sampling(16, structure=Structure(choice=_CHOICE), seed=1), 0)
    try:
        answer = await http.post(COMPLETIONS, job_body(job, name, priority=False, stream=False))
        return bool(answer["choices"][0]["text"] in _CHOICE)
    except (InvalidRequest, KeyError, IndexError, TypeError):
        return False


def _job(sampling: Sampling, priority: int) -> Job:
    return Job(_PROMPT, sampling, priority=priority, cache_salt="probe")


async def version_of(http: HttpEngines) -> str:
    """vLLM's version there, by the route that its own server has; empty if it does not tell."""
    try:
        return str((await http.get("/version"))["version"])[:32]
    except (ServiceError, KeyError, TypeError):
        return ""
