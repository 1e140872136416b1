"""The service's first check on a GPU, step by step: `make gpu-check`.

    make gpu-check OPTIONS="--model models/mine --engine max_model_len=8192"

Stops at the first step that fails, and prints what each step found: paste it into a bug report.
report.md in --out holds the same.
"""

from pathlib import Path

import pytest

from loadtests.peers import MODEL_FOLDER, engine_arguments
from tests.gpu_check.check import Check
from tests.gpu_check.steps import take
from tests.options import check_options, given

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(0)]


def test_every_step_succeeds() -> None:
    parser = check_options("gpu-check", __doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder of the model")
    parser.add_argument("--engine", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("dist/gpu-check"))
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--users", type=int, default=256, help="streams of the benchmark")
    options = given(parser)
    engine = engine_arguments(options.engine)
    check = Check(options.model, engine, options.out, options.adapters, options.users)
    try:
        taken = take(check.steps(), options.out)
    finally:
        check.end()
        print(f"==> the report, {options.out / 'report.md'}, to paste\n")
        print((options.out / "report.md").read_text(encoding="utf-8"))
    assert [each.name for each in taken if each.failure] == []
