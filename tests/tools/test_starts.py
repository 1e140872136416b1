"""The arithmetic of the benchmark of starts."""

from tools.starts import told


def test_ratios_are_of_medians_to_the_others_server() -> None:
    lines = told("busy", {"service": [30, 20, 90], "vllm": [60, 40, 61]}).splitlines()
    assert lines == [
        "service: busy: 30.0 20.0 90.0 s, median 30.0, 0.50",
        "vllm: busy: 60.0 40.0 61.0 s, median 60.0, 1.00",
    ]
