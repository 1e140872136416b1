"""The comparison of the service's ground with another version of vLLM, by its sources alone."""

import json
from pathlib import Path

import pytest
import vllm

from service.vllm.versions import installed_version
from tools import vllm_digests, vllm_rehearsal
from tools.vllm_rehearsal import Sources, used


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A version with three modules, two of them changed."""
    folder = tmp_path / "vllm-9.9.9"
    modules = ("vllm/lora/request.py", "vllm/v1/metrics/stats.py", "vllm/v1/metrics/loggers.py")
    for module in modules:
        target = folder / module
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((Path(vllm.__file__).parents[1] / module).read_text())
    changed = folder / "vllm/lora/request.py"
    changed.write_text(changed.read_text().replace("lora_int_id: int", "lora_number: int"))
    loggers = folder / "vllm/v1/metrics/loggers.py"
    loggers.write_text(loggers.read_text().replace("def record(", "def note("))
    return tmp_path


def test_all_names_that_the_service_uses_are_found_in_the_installed_version() -> None:
    installed = Sources(Path(vllm.__file__).parents[1])
    names = used()
    assert len(names) > 80
    assert [name for name in names if installed.definition(*name) is None] == []


def test_a_member_is_found_in_its_class_or_in_a_base() -> None:
    installed = Sources(Path(vllm.__file__).parents[1])
    scheduler = "vllm.v1.core.sched.async_scheduler"
    assert ("vllm.v1.metrics.loggers", "PrometheusStatLogger.record") in used()
    assert installed.definition(scheduler, "AsyncScheduler.schedule") == installed.definition(
        "vllm.v1.core.sched.scheduler", "Scheduler.schedule"
    )
    assert installed.definition(scheduler, "AsyncScheduler.nothing_of_the_kind") is None


def test_what_is_gone_or_changed_is_printed_with_its_places(
    other: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_rehearsal, "FOLDER", other)
    monkeypatch.setattr("sys.argv", ["vllm_rehearsal", "9.9.9"])
    assert vllm_rehearsal.main() == 1
    lines = capsys.readouterr().out.splitlines()
    (request,) = [line for line in lines if " vllm.lora.request:LoRARequest " in line]
    assert request.startswith("changed (-lora_int_id +lora_number)")
    assert "service/vllm/conversion.py:" in request
    (gone,) = [line for line in lines if " vllm.sampling_params:SamplingParams " in line]
    assert gone.startswith("gone")
    (member,) = [line for line in lines if ":PrometheusStatLogger.record " in line]
    assert member.startswith("gone")
    assert "service/vllm/stat_loggers.py:" in member
    assert not [line for line in lines if "vllm.v1.metrics.stats:RequestStateStats" in line]


def test_the_digests_of_the_installed_version_are_those_of_its_sources() -> None:
    recorded = json.loads(vllm_digests.FILE.read_text())
    assert len(recorded) >= 3
    installed = vllm_digests.digests(Sources(Path(vllm.__file__).parents[1]))
    assert recorded[installed_version()] == installed
    assert all(found.keys() == installed.keys() for found in recorded.values())
