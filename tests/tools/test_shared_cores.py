"""The arithmetic of the benchmark on shared cores."""

from tools.shared_cores import told


def test_ratios_are_of_medians_to_the_first_case() -> None:
    lines = told("vllm", 0.105, {"quiet": [100, 80, 900], "busy": [50, 40, 60]}).splitlines()
    assert lines == [
        "vllm: an idle server takes 10.5% of a core",
        "vllm: quiet: 100 80 900 tokens/s, 1.00",
        "vllm: busy: 50 40 60 tokens/s, 0.50",
    ]
