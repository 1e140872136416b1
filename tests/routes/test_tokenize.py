"""POST /v1/tokenize and /v1/detokenize."""

import httpx
import pytest

from tests.answers import refusal


@pytest.mark.parametrize("text", ["Hello", "", "naïve 日本語 🙂", "\x00\n\t", "<|im_end|>"])
async def test_a_text_comes_back_from_its_tokens(client: httpx.AsyncClient, text: str) -> None:
    tokenized = (await client.post("/v1/tokenize", json={"model": "fake", "prompt": text})).json()
    assert tokenized.keys() == {"tokens", "count", "max_model_len"}
    assert (tokenized["count"], tokenized["max_model_len"]) == (len(tokenized["tokens"]), 512)
    body = {"model": "fake", "tokens": tokenized["tokens"]}
    assert (await client.post("/v1/detokenize", json=body)).json() == {"text": text}


async def test_messages_are_tokenized_as_generation_reads_them(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}]}
    tokenized = (await client.post("/v1/tokenize", json=body)).json()
    generated = (await client.post("/v1/generate", json=body)).json()
    assert tokenized["count"] == generated["usage"]["prompt_tokens"]


async def test_a_prompt_that_does_not_fit_is_refused_with_its_length(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/v1/tokenize", json={"model": "fake", "prompt": "x" * 512})
    error = refusal(response, 400)
    assert "513 tokens" in error["message"]
    assert "512" in error["message"]


async def test_messages_are_capped(client: httpx.AsyncClient) -> None:
    messages = [{"role": "u", "content": ""}] * 513
    response = await client.post("/v1/tokenize", json={"model": "fake", "messages": messages})
    assert refusal(response, 400)["message"] == "messages: at most 512, got 513"


@pytest.mark.parametrize("token", [-1, 259, 1 << 62, 10**4200], ids=range(4))
async def test_an_unknown_token_is_refused_with_the_range(
    client: httpx.AsyncClient, token: int
) -> None:
    response = await client.post("/v1/detokenize", json={"model": "fake", "tokens": [72, token]})
    error = refusal(response, 400)
    assert (error["param"], "0..258" in error["message"]) == ("tokens", True)
    assert len(error["message"]) < 120


@pytest.mark.parametrize("path", ["/v1/tokenize", "/v1/detokenize"])
async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    body = {"model": "other", "tokens": []} if "de" in path else {"model": "other", "prompt": "x"}
    assert refusal(await client.post(path, json=body), 404)["code"] == "model_not_found"


async def test_the_paths_of_vllms_server_answer_in_its_shapes(client: httpx.AsyncClient) -> None:
    ours = (await client.post("/v1/tokenize", json={"model": "fake", "prompt": "Hi"})).json()
    sent = {"prompt": "Hi", "add_special_tokens": True, "return_token_strs": False}
    assert (await client.post("/tokenize", json=sent)).json() == ours
    bare = await client.post("/tokenize", json=sent | {"add_special_tokens": False})
    assert bare.json()["tokens"] == ours["tokens"][1:]
    back = await client.post("/detokenize", json={"tokens": bare.json()["tokens"]})
    assert back.json() == {"prompt": "Hi"}


async def test_without_special_tokens_the_limit_is_the_same(client: httpx.AsyncClient) -> None:
    sent = {"prompt": "x" * 513, "add_special_tokens": False}
    error = refusal(await client.post("/tokenize", json=sent), 400)
    assert error["message"] == "prompt: at most 512 tokens, got 513"


async def test_strings_of_tokens_are_not_told(client: httpx.AsyncClient) -> None:
    response = await client.post("/tokenize", json={"prompt": "Hi", "return_token_strs": True})
    assert refusal(response, 400)["param"] == "return_token_strs"
