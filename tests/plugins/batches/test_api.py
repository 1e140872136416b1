"""Files and batches over HTTP, as OpenAI's client asks for them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from loadtests.processes import PATIENCE_S, eventually
from service.errors import ConfigurationError
from service.plugins.batches.settings import BatchSettings
from service.runtime.status import Phase
from service.settings.admission import AdmissionSettings
from service.settings.tree import HttpSettings, TenantSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tests.plugins.batches.inputs import GENERATE, jsonl, line, many, read
from tools.keys import bearer, entry, key_of, write_keys

FORM_BEGIN = b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nabc'
ENDED = ("completed", "failed", "expired", "cancelled")


def service(path: Path, **sections: Any) -> LiveService:
    batches = BatchSettings(path=path / "batches", **sections.pop("batches", {}))
    return LiveService(batches=batches, **sections)


def on_disk(path: Path) -> list[Path]:
    """Contents of files, and of uploads that are not complete."""
    # `Path.rglob` fails at a folder that the service removes meanwhile.
    trees = [os.walk(path / "batches" / name) for name in ("files", "uploads")]
    return [Path(base) / name for tree in trees for base, _, names in tree for name in names]


@asynccontextmanager
async def client_of(live: LiveService, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client of a service."""
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def started(client: openai.AsyncOpenAI, content: bytes, **fields: Any) -> Batch:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    asked: dict[str, Any] = {"endpoint": GENERATE, "completion_window": "24h", **fields}
    return await client.batches.create(input_file_id=file.id, **asked)


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            batch = await client.batches.retrieve(batch.id)
            if batch.status in ENDED:
                return batch
            await asyncio.sleep(0.01)


async def content(client: openai.AsyncOpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return read((await client.files.content(file_id)).content)


async def test_a_batch_is_made_watched_and_read(tmp_path: Path) -> None:
    lines = [line("good", prompt="Tell"), line("bad", model="none"), line("worse", max_tokens=-1)]
    with service(tmp_path) as live:
        async with client_of(live) as client:
            batch = await started(client, jsonl(*lines), metadata={"job": "7"})
            assert batch.status in ("validating", "in_progress")
            assert batch.metadata == {"job": "7"}
            assert batch.expires_at == batch.created_at + 86_400
            batch = await ended(client, batch)
            assert batch.status == "completed"
            assert batch.request_counts is not None
            assert batch.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}
            (good,) = await content(client, batch.output_file_id)
            bad = await content(client, batch.error_file_id)
            files = [file async for file in client.files.list()]
            (listed,) = [each async for each in client.batches.list()]
        await eventually(live.idle)
        lines_answered = live.value("inference_batch_lines_total", outcome="completed")
        by_route = {"route": GENERATE, "service_tier": "flex"}
        assert live.value("inference_requests_total", **by_route, outcome="ok") == 1
        assert live.value("inference_requests_total", **by_route, outcome="invalid") == 2
    assert lines_answered == 1
    assert listed == batch
    assert good["custom_id"] == "good"
    body = good["response"]["body"]
    assert body["outputs"][0]["text"]
    assert body["timing"]["service_tier"] == "flex"
    assert body["id"] == good["response"]["request_id"] == good["id"]
    assert [each["custom_id"] for each in bad] == ["bad", "worse"]
    assert [each["response"]["status_code"] for each in bad] == [404, 400]
    assert "none" in bad[0]["response"]["body"]["error"]["message"]
    assert {file.id: file.purpose for file in files} == {
        batch.input_file_id: "batch",
        batch.output_file_id: "batch_output",
        batch.error_file_id: "batch_output",
    }


async def test_encoders_answer_batches_too(tmp_path: Path) -> None:
    url = "/v1/embeddings"
    fields: dict[str, Any] = {"model": "embed", "input": ["x", "y"]}
    lines = [{"custom_id": f"{n}", "method": "POST", "url": url, "body": fields} for n in range(9)]
    with service(tmp_path, encoders=[{"name": "embed", "path": "unused"}]) as live:
        async with client_of(live) as client:
            batch = await ended(client, await started(client, jsonl(*lines), endpoint=url))
            answers = await content(client, batch.output_file_id)
            embedded = await client.embeddings.create(**fields)
    bodies = [answer["response"]["body"] for answer in answers]
    assert [len(body["data"]) for body in bodies] == [2] * 9
    assert bodies[0]["data"][0]["embedding"] == pytest.approx(embedded.data[0].embedding)


async def test_classifications_come_in_a_batch_too(tmp_path: Path) -> None:
    fields = {"model": "fake", "input": ["x", "y"], "candidate_labels": ["a", "b"]}
    lines = [
        {"custom_id": "c", "method": "POST", "url": "/v1/classify", "body": fields},
        {"custom_id": "d", "method": "POST", "url": "/v1/classify", "body": {"model": "fake"}},
    ]
    with service(tmp_path) as live:
        async with client_of(live) as client:
            batch = await started(client, jsonl(*lines), endpoint="/v1/classify")
            batch = await ended(client, batch)
            (answer,) = await content(client, batch.output_file_id)
            (error,) = await content(client, batch.error_file_id)
    assert len(answer["response"]["body"]["data"]) == 2
    assert error["response"]["body"]["error"]["param"] == "input"


async def test_a_file_that_is_not_jsonl_fails_with_its_lines(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        async with client_of(live) as client:
            batch = await ended(client, await started(client, jsonl(line("a"), "{", line("a"))))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    found = [(error.code, error.line, error.param) for error in batch.errors.data]
    assert found == [("invalid_json_line", 2, None), ("duplicate_custom_id", 3, "custom_id")]
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "1y"}, "completion_window"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
        ({"priority": 1}, "priority"),
    ],
)
async def test_a_batch_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    with service(tmp_path) as live:
        async with live.client() as client:
            files = {"file": ("in", many(1))}
            answer = await client.post("/v1/files", files=files, data={"purpose": "batch"})
            body = {
                "input_file_id": answer.json()["id"],
                "endpoint": GENERATE,
                "completion_window": "24h",
            }
            error = refusal(await client.post("/v1/batches", json=body | fields), 400)
    assert error["param"].partition(".")[0] == param


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({}, {"file": ("in", b"x")}, "purpose"),
        ({"purpose": "fine-tune"}, {"file": ("in", b"x")}, "purpose"),
        ({"purpose": "batch", "other": "x"}, {"file": ("in", b"x")}, "other"),
        ({"purpose": "batch"}, {"data": ("in", b"x")}, "file"),
        ({"purpose": "batch", "expires_after[seconds]": "5"}, {"file": ("in", b"x")},
         "expires_after"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at",
          "expires_after[seconds]": "5"}, {"file": ("in", b"x")}, "expires_after"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at",
          "expires_after[seconds]": "000000086400" + "9" * 4}, {"file": ("in", b"x")},
         "expires_after"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at",
          "expires_after[seconds]": "000000086400" + "9" * 30}, {"file": ("in", b"x")},
         "expires_after"),
        ({"purpose": "x" * 2000}, {"file": ("in", b"x")}, None),
        ({str(n): "" for n in range(9)}, {"file": ("in", b"x")}, None),
        ({"purpose": "batch"}, [("file", ("a", b"x")), ("file", ("b", b"x"))], "file"),
    ],
)  # fmt: skip
async def test_an_upload_that_is_no_file_for_a_batch_is_refused_and_leaves_nothing(
    tmp_path: Path, data: dict[str, str], files: Any, param: str | None
) -> None:
    with service(tmp_path, batches={"max_file_bytes": 4096}) as live:
        async with live.client() as client:
            error = refusal(await client.post("/v1/files", data=data, files=files), 400)
            assert (await client.get("/v1/files")).json()["data"] == []
        await eventually(lambda: not on_disk(tmp_path))
    assert error["param"] == param


async def test_an_upload_is_bounded_whatever_it_declares(tmp_path: Path) -> None:
    boundary = {"content-type": "multipart/form-data; boundary=b"}

    async def four_times_too_large() -> AsyncIterator[bytes]:
        yield FORM_BEGIN
        for _ in range(64):
            yield bytes(1 << 16)

    with service(tmp_path, batches={"max_file_bytes": 1 << 20}) as live:
        async with live.client() as client:
            for body in (bytes(2 << 20), four_times_too_large()):
                answer = await client.post("/v1/files", content=body, headers=boundary)
                assert "at most 1048576 bytes" in refusal(answer, 413)["message"]
            for body in (b"", b"--b--\r\n", b"no form", b"--b\r\nnonsense\r\n\r\n", FORM_BEGIN):
                refusal(await client.post("/v1/files", content=body, headers=boundary), 400)
            assert refusal(await client.post("/v1/files", json={}), 415)
            gzip = {**boundary, "content-encoding": "gzip"}
            refusal(await client.post("/v1/files", content=b"x", headers=gzip), 415)
        await eventually(lambda: not on_disk(tmp_path))


@pytest.mark.parametrize("name", ["../../in.jsonl", "C:\\data\\in.jsonl", "/etc/in.jsonl"])
async def test_a_files_name_has_no_folders(tmp_path: Path, name: str) -> None:
    form = FORM_BEGIN.replace(b'"f"', b'"%b"' % name.encode())
    form += b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    with service(tmp_path) as live:
        async with live.client() as client:
            file = (await client.post("/v1/files", content=form, headers=headers)).json()
            content = await client.get(f"/v1/files/{file['id']}/content")
    assert file["filename"] == "in.jsonl"
    assert content.headers["content-disposition"] == 'attachment; filename="in.jsonl"'


@pytest.mark.parametrize(
    "frame",
    [
        b"\r\n" * 200_000,
        FORM_BEGIN + b"\r\n" + b"--b\r\ncontent-disposition: form-data; name=a\r\n\r\n\r\n" * 8000,
        FORM_BEGIN + b"\r\n--b--" + b"x" * 400_000,
    ],
    ids=["before", "parts", "after"],
)
async def test_a_form_has_few_bytes_beside_its_file(tmp_path: Path, frame: bytes) -> None:
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    with service(tmp_path) as live:
        async with live.client() as client:
            answer = await client.post("/v1/files", content=frame, headers=boundary)
    assert "at most 65536 bytes beside its file" in refusal(answer, 413)["message"]


async def test_the_type_of_a_form_is_short(tmp_path: Path) -> None:
    # Its parameters are parsed on the event loop; 60,000 semicolons take 0.1 s.
    long = {"content-type": f'multipart/form-data; boundary=b; a="{";" * 1000}'}
    with service(tmp_path) as live:
        async with live.client() as client:
            answer = await client.post("/v1/files", content=FORM_BEGIN, headers=long)
    assert "multipart/form-data with a boundary" in refusal(answer, 415)["message"]


async def test_a_client_that_leaves_or_pauses_leaves_nothing(tmp_path: Path) -> None:
    head = "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    for pause_ms in (60_000, 200):
        with service(tmp_path, http=HttpSettings(body_timeout_ms=pause_ms)) as live:
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(head.encode() + FORM_BEGIN)
            await eventually(lambda: on_disk(tmp_path))
            if pause_ms == 200:
                assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()
            await eventually(lambda: not on_disk(tmp_path))
            # The place among the uploads is free again, and so is the request's.
            await eventually(lambda: sum(live.outcomes().values()) == 1)


async def test_uploads_that_come_together_stay_within_their_tenants_bytes(tmp_path: Path) -> None:
    size, limit = 700_000, 1 << 20
    head = f"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    sent: Any = {"files": {"file": ("in", bytes(size))}, "data": {"purpose": "batch"}}
    with service(tmp_path, batches={"tenant_bytes": limit, "max_file_bytes": limit}) as live:
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(head.encode() + FORM_BEGIN)
        await eventually(lambda: on_disk(tmp_path))
        async with live.client() as client:
            refused = refusal(await client.post("/v1/files", **sent), 413)
            assert f"uploads and answers may hold {limit} bytes together" in refused["message"]
            writer.close()
            await eventually(lambda: sum(live.outcomes().values()) == 2)
            assert (await client.post("/v1/files", **sent)).status_code == 200
            refusal(await client.post("/v1/files", **sent), 413)


async def test_a_tenant_has_few_downloads_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.batches.batches.DOWNLOADS", 2)
    with service(tmp_path) as live:
        async with client_of(live) as client, live.client() as plain:
            file = await client.files.create(file=("in", bytes(32 << 20)), purpose="batch")
            path = f"/v1/files/{file.id}/content"
            async with plain.stream("GET", path), plain.stream("GET", path):
                refused = refusal(await plain.get(path), 429)
                assert refused["code"] == "too_many_downloads"
            await eventually(lambda: sum(live.outcomes().values()) == 4)
            assert len((await plain.get(path)).content) == 32 << 20


@pytest.mark.parametrize(
    ("asked", "status", "found"),
    [
        ("bytes=2-4", 206, b"cde"),
        ("bytes=-2", 206, b"ij"),
        ("bytes=10-", 416, "the content has 10 bytes, got 'bytes=10-'"),
        ("bytes=4-2", 400, "must be bytes=FIRST-LAST"),
        ("lines=1", 400, "must be bytes=FIRST-LAST"),
    ],
)
async def test_a_part_of_a_content_is_served_or_refused_as_all_is(
    tmp_path: Path, asked: str, status: int, found: bytes | str
) -> None:
    with service(tmp_path) as live:
        async with client_of(live) as client, live.client() as plain:
            file = await client.files.create(file=("in", b"abcdefghij"), purpose="batch")
            headers = {"Range": asked}
            answer = await plain.get(f"/v1/files/{file.id}/content", headers=headers)
    if isinstance(found, bytes):
        assert (answer.status_code, answer.content) == (status, found)
    else:
        error = refusal(answer, status)
        assert found in error["message"]
        assert error["param"] == "Range"
        assert answer.headers.get("content-range") == ("bytes */10" if status == 416 else None)


async def test_a_file_larger_than_a_body_is_read_back_byte_by_byte(tmp_path: Path) -> None:
    big = b"".join(b'{"line": %d}\n' % n for n in range(200_000))
    with service(tmp_path) as live:
        assert len(big) > live.settings.http.max_body_bytes
        async with client_of(live) as client:
            file = await client.files.create(file=("my file.jsonl", big), purpose="batch")
            assert (file.bytes, file.filename) == (len(big), "my file.jsonl")
            assert (await client.files.content(file.id)).content == big
            assert await client.files.retrieve(file.id) == file
            assert (await client.files.delete(file.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.files.content(file.id)


def tenants(tmp_path: Path, *entries: dict[str, Any]) -> TenantSettings:
    return TenantSettings(keys=write_keys(tmp_path / "keys.yaml", *entries))


async def test_another_tenants_files_and_batches_are_not_found(tmp_path: Path) -> None:
    keys = tenants(tmp_path, entry("one"), entry("two"))
    with service(tmp_path, tenants=keys) as live:
        async with client_of(live, key_of("one")) as one, client_of(live, key_of("two")) as two:
            batch = await ended(one, await started(one, many(2)))
            assert batch.output_file_id is not None
            for call in (
                two.files.retrieve(batch.input_file_id),
                two.files.content(batch.output_file_id),
                two.files.delete(batch.input_file_id),
                two.batches.retrieve(batch.id),
                two.batches.cancel(batch.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await call
            with pytest.raises(openai.BadRequestError, match="there is no file"):
                await two.batches.create(
                    input_file_id=batch.input_file_id,
                    endpoint="/v1/completions",
                    completion_window="24h",
                )
            assert (await two.files.list()).data == []
            assert (await two.batches.list()).data == []
        async with live.client() as nobody:
            refusal(await nobody.get(f"/v1/files/{batch.output_file_id}/content"), 401)


async def test_lines_have_the_rights_and_quotas_of_their_tenant(tmp_path: Path) -> None:
    few = entry("few", quotas={"requests_per_day": 6}, models=["fake"])
    keys = tenants(
        tmp_path, few, entry("none", models=[]), entry("people", service_tiers=["default"])
    )
    with service(tmp_path, tenants=keys) as live:
        async with client_of(live, key_of("none")) as client:
            batch = await ended(client, await started(client, many(2)))
            errors = await content(client, batch.error_file_id)
            assert {each["response"]["status_code"] for each in errors} == {404}
        async with client_of(live, key_of("few")) as client:
            batch = await started(client, many(9))  # the third of six requests
            labels = {"tenant": "few", "route": GENERATE}
            await eventually(
                lambda: live.value("inference_requests_total", **labels, outcome="refused") > 0
            )
            await eventually(
                lambda: live.value("inference_requests_total", **labels, outcome="ok") == 4
            )
            with pytest.raises(openai.RateLimitError):
                await client.batches.retrieve(batch.id)
        async with client_of(live, key_of("people")) as client:
            with pytest.raises(openai.BadRequestError, match="not in the `service_tiers`"):
                await started(client, many(1))


async def test_a_removed_key_stops_a_batch_and_a_new_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.batches.run.LEAST_REST_SECONDS", 0.1)
    keys = tenants(tmp_path, entry("one"), entry("two"))
    assert keys.keys is not None
    with service(tmp_path, tenants=keys) as live:
        live.engine.frozen, live.engine.spared = True, 100  # tokens, too few for all
        async with client_of(live, key_of("one")) as client:
            batch = await started(client, many(40, max_tokens=8))
            answered = "inference_batch_lines_total"
            await eventually(lambda: live.value(answered) >= 4)
            write_keys(keys.keys, entry("two"))
            async with live.client() as plain:
                address = f"/v1/batches/{batch.id}"
                while True:
                    if (await plain.get(address, headers=bearer("one"))).status_code == 401:
                        break
                    await asyncio.sleep(0.05)
                live.engine.frozen = False
                await asyncio.sleep(1)  # for lines that were asked just before
                await eventually(live.idle)
                before = live.value(answered)
                await asyncio.sleep(1.5)
                assert live.value(answered) == before < 40
            write_keys(keys.keys, entry("one"), entry("two"))
            await eventually(lambda: live.value(answered) == 40)


async def test_a_cancelled_batch_frees_the_engine(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        live.engine.frozen = True
        async with client_of(live) as client:
            batch = await started(client, many(20))
            await eventually(lambda: live.engine.running > 0)
            cancelling = await client.batches.cancel(batch.id)
            assert cancelling.status == "cancelling"
            batch = await ended(client, batch)
            assert batch.status == "cancelled"
            await eventually(live.idle)
            live.engine.frozen = False
            with pytest.raises(openai.BadRequestError, match="has ended already"):
                await client.batches.cancel(batch.id)
            errors = await content(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert len(errors) == 20


async def test_a_batch_expires_within_its_window(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        live.engine.frozen = True
        async with client_of(live) as client:
            batch = await ended(client, await started(client, many(5), completion_window="1s"))
            errors = await content(client, batch.error_file_id)
        live.engine.frozen = False
    assert batch.status == "expired"
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}


async def test_a_drain_stops_a_batch_between_lines_and_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    drain = {"lame_duck_s": 0, "budget_s": PATIENCE_S}
    with service(tmp_path, drain=drain) as live:
        live.engine.frozen, live.engine.spared = True, 40  # tokens, too few for all
        async with client_of(live) as client:
            batch = await started(client, many(60, max_tokens=4))
            await eventually(lambda: live.value("inference_batch_lines_total") >= 3)
        stopped: list[bool] = []
        live.status.stop = lambda: stopped.append(True)
        assert live.status.drain is not None
        live.status.drain(False)
        await eventually(lambda: live.status.phase is Phase.DRAINING)
        live.engine.frozen = False
        await eventually(lambda: stopped)
    answered = live.value("inference_batch_lines_total", outcome="completed")
    assert live.value("inference_batch_lines_total", outcome="failed") == 0
    assert answered < 60
    with service(tmp_path) as live:
        async with client_of(live) as client:
            batch = await ended(client, batch)
            output = await content(client, batch.output_file_id)
        rest = live.value("inference_batch_lines_total", outcome="completed")
    assert [each["custom_id"] for each in output] == [f"line-{n}" for n in range(60)]
    assert answered + rest == 60


async def test_people_go_before_a_batch(tmp_path: Path) -> None:
    admission = AdmissionSettings(max_in_flight=4)
    with service(tmp_path, admission=admission, token_seconds=0.005) as live:
        async with client_of(live) as client, live.client() as people:
            batch = await started(client, many(30, max_tokens=20))
            await eventually(lambda: live.value("inference_flex_requests_in_flight") > 0)
            body = {"model": "fake", "prompt": "Hi", "max_tokens": 2}
            answers = await asyncio.gather(*(people.post(GENERATE, json=body) for _ in range(12)))
            assert {answer.status_code for answer in answers} == {200}
            assert live.value("inference_flex_requests_queued") <= 4
            batch = await ended(client, batch)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 30


async def test_lists_go_page_by_page(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        async with client_of(live) as client:
            made = [await ended(client, await started(client, many(1))) for _ in range(5)]
            listed = [batch.id async for batch in client.batches.list(limit=2)]
            oldest = [file.id async for file in client.files.list(limit=2, order="asc")]
            inputs = [file.id async for file in client.files.list(purpose="batch")]
        async with live.client() as plain:
            refusal(await plain.get("/v1/batches?limit=0"), 400)
            refusal(await plain.get("/v1/batches?after=batch_none"), 400)
    assert listed == [batch.id for batch in reversed(made)]
    assert len(oldest) == 10
    assert inputs == [batch.input_file_id for batch in reversed(made)]


async def test_nothing_is_served_without_a_folder() -> None:
    with LiveService() as live:
        async with live.client() as client:
            for path in ("/v1/files", "/v1/batches"):
                refusal(await client.get(path), 404)
            refusal(await client.post("/v1/files", files={"file": b"x"}), 404)


def test_a_folder_that_cannot_be_used_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("")
    with pytest.raises(ConfigurationError, match=r"batches\.path"):
        service(tmp_path)


async def test_no_client_can_name_a_tenant_of_its_own(tmp_path: Path) -> None:
    keys = tenants(tmp_path, entry("one"))
    with service(tmp_path, tenants=keys) as live:
        async with live.client() as client:
            for name in ("llm_service.tenant", "llm-service-tenant", "x-tenant"):
                answer: httpx.Response = await client.get("/v1/batches", headers={name: "one"})
                refusal(answer, 401)
            body = json.dumps({"llm_service.tenant": "one"})
            refusal(await client.post("/v1/batches", content=body), 401)
