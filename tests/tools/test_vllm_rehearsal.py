"""The comparison of the service's ground with another version of vLLM, by its sources alone."""

from pathlib import Path

import pytest
import vllm

from tools import vllm_rehearsal
from tools.vllm_rehearsal import Sources, used


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A version with two modules, one of them changed."""
    folder = tmp_path / "vllm-9.9.9"
    for module in ("vllm/lora/request.py", "vllm/v1/metrics/stats.py"):
        target = folder / module
        target.parent.mkdir(parents=True)
        target.write_text((Path(vllm.__file__).parents[1] / module).read_text())
    changed = folder / "vllm/lora/request.py"
    changed.write_text(changed.read_text().replace("lora_int_id: int", "lora_number: int"))
    return tmp_path


def test_all_names_that_the_service_uses_are_found_in_the_installed_version() -> None:
    installed = Sources(Path(vllm.__file__).parents[1])
    names = used()
    assert len(names) > 80
    assert [name for name in names if installed.definition(*name) is None] == []


def test_what_is_gone_or_changed_is_printed_with_its_places(
    other: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_rehearsal, "_FOLDER", other)
    monkeypatch.setattr("sys.argv", ["vllm_rehearsal", "9.9.9"])
    assert vllm_rehearsal.main() == 1
    lines = capsys.readouterr().out.splitlines()
    (request,) = [line for line in lines if " vllm.lora.request:LoRARequest " in line]
    assert request.startswith("changed (-lora_int_id +lora_number)")
    assert "service/vllm/generation.py:" in request
    (gone,) = [line for line in lines if " vllm.sampling_params:SamplingParams " in line]
    assert gone.startswith("gone")
    assert not [line for line in lines if "vllm.v1.metrics.stats:RequestStateStats" in line]
