"""Goodput is read from the table of the benchmarks."""

import pytest

from tools.goodput_plot import PICTURE, goodput, picture

TABLE = """
## overload: this service against vllm serve

|  | offered | offered/s | goodput |
| --- | --- | --- | --- |
| this service | 20 | 2 | 50% |
| this service, x0.5 | 4 | 4.0 | 100.0% |
| vllm serve, x0.5 | 4 | 4.0 | 25.0% |

## shares
"""


def test_goodput_is_the_offered_rate_times_the_share_within_the_objectives() -> None:
    assert goodput(TABLE) == {"4.0": {"this service": 4.0, "vllm serve": 1.0}}


def test_a_page_without_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no table of stages"):
        goodput("# Benchmarks")


def test_the_picture_is_the_one_that_is_kept() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture()
