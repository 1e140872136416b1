"""vLLM's own series, by the names that requests give."""

from pathlib import Path

from prometheus_client import REGISTRY
from vllm.v1.metrics.stats import SchedulerStats

from service.engine.contract import Adapter
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.stat_loggers import NamedAdapterStats
from tests.served.configuration import ENGINE


def test_adapters_stand_under_the_names_that_requests_give(tiny_folder: Path) -> None:
    engine = ENGINE | {"enable_lora": True, "max_loras": 2}
    model = ModelSettings(name="tiny", path=tiny_folder)
    config = engine_config(parse_engine_arguments(Settings(model=model, engine=engine)))
    versions = [Adapter("intent", 1, "/a", f"sha256:{digit * 64}") for digit in "ab"]
    NamedAdapterStats(config, [0]).record(
        SchedulerStats(
            running_lora_adapters={each.engine_name: 1 for each in versions},
            waiting_lora_adapters={Adapter("tools", 3, "/t", "sha256:" + "c" * 64).engine_name: 2},
        ),
        None,
    )
    (info,) = [
        sample
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "vllm:lora_requests_info"
    ]
    assert info.labels["running_lora_adapters"] == "intent"
    assert info.labels["waiting_lora_adapters"] == "tools"
