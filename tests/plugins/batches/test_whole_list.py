"""Long lists of answers."""

import asyncio
import json
from collections.abc import Iterator

from service.http.bodies import render_items
from service.plugins.batches.bodies import FileBody, FileList, page
from service.plugins.batches.store import Purpose, StoredFile


async def test_a_page_is_one_document() -> None:
    files = [StoredFile(f"f{n}", "a", 'in"data":[].jsonl', Purpose.BATCH, 1, 2, 3) for n in (1, 2)]
    whole = FileList(
        data=[FileBody.of(file) for file in files], has_more=True, first_id="f1", last_id="f2"
    )
    answer = await page(FileList, FileBody.of, files, True)
    assert json.loads(bytes(answer.body)) == whole.model_dump()
    empty = json.loads(bytes((await page(FileList, FileBody.of, [], False)).body))
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


async def test_others_get_in_between_two_items_of_a_list() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def items() -> Iterator[dict[str, int]]:
        for _ in range(20):
            yield {"turn": turns}

    task = asyncio.create_task(others())
    assert await render_items(items()) == [b'{"turn":%d}' % turn for turn in range(20)]
    task.cancel()
