"""Ten kills during one batch of 500 lines: `make test-batches`.

    make test-batches OPTIONS="--files s3://bucket/batches"
    make test-batches OPTIONS="--kills 2 --lines 300 --files s3://... --storage valkey://..."
    make test-batches OPTIONS="--model .cache/models/smollm2-135m-instruct --tokens 16"

With --files, the files are in that object store; with --storage, two replicas share the records
there. The model is a random one of one layer unless another is named, whose answers take longer.
"""

from pathlib import Path

import pytest

from tests.faults.batch_kills import survive, take_over
from tests.options import check_options, given
from tests.served.configuration import SMOLLM2
from tests.served.tiny import build_tiny_model

pytestmark = [pytest.mark.kills, pytest.mark.timeout(0)]


def test_every_line_has_one_answer_after_all_kills(tmp_path: Path) -> None:
    parser = check_options("test-batches", __doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--tokens", type=int, help="of each answer; default 32, of replicas 128")
    parser.add_argument("--model", type=Path, help="folder of the model; default a random one")
    parser.add_argument("--files", help="address of an object store, as `batches.files`")
    parser.add_argument("--storage", help="address of the records, as `batches.storage`")
    options = given(parser)
    kills, lines, files = options.kills, options.lines, options.files
    if options.model:
        model = options.model.absolute()
    else:
        model = tmp_path / "model"
        build_tiny_model(SMOLLM2, model)
    if options.storage:
        tokens = options.tokens or 128
        again = take_over(tmp_path, model, kills, lines, files, options.storage, tokens)
    else:
        again = survive(tmp_path, model, kills, lines, files, options.tokens or 32)
    print(
        f"{kills} kills: {lines} lines, each with one answer; {again} requests were made again, "
        "since their answers were not kept yet"
    )
