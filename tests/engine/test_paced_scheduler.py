"""Steps of the engine's scheduler (CPU build) for tenants within their share and above it.

The scheduler is the engine's own, without a model: sampled tokens are made up, and steps take time
in a model of it.
"""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from service.admission.admitted import Rank
from service.admission.queued_request import QueuedRequest
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from tests.admission.batch_engine import BatchEngine, Source
from tests.admission.test_shares import percentile
from tests.served.configuration import ENGINE

WITHIN, ABOVE, FLEX = Rank
BLOCK, BLOCKS = 16, 2000
STEP = 1024
BASE_S, DECODED_S, READ_S = 0.017, 0.0007, 0.00038
"""Seconds of a step, and of its tokens: SmolLM2-135M on two cores."""

Step = dict[str, int]


class Steps:
    """An engine's scheduler and the steps that it makes, as tokens by request."""

    def __init__(self, config: Any) -> None:
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
        config.cache_config.num_gpu_blocks = BLOCKS
        self.scheduler = config.scheduler_config.get_scheduler_cls()(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK,
            hash_block_size=BLOCK,
        )
        self.sampled: list[str] = []
        """Requests that the last step gave a token."""
        self._serial = itertools.count()

    def add(self, name: str, rank: Rank, prompt: int, output: int = 100, adapter: int = 0) -> None:
        """Let a request come after those that came; without an adapter if that is 0."""
        params = SamplingParams(max_tokens=output, ignore_eos=True)
        arrival = float(next(self._serial))
        ids = [7] * prompt
        lora = LoRARequest(f"a{adapter}", adapter, "/adapters") if adapter else None
        self.scheduler.add_request(
            Request(name, ids, params, None, arrival_time=arrival, priority=rank, lora_request=lora)
        )

    def step(self) -> Step:
        """Make a step; each request that has read its prompt gets a token."""
        planned = self.scheduler.schedule()
        tokens = dict(planned.num_scheduled_tokens)
        running = self.scheduler.requests
        self.sampled = [each for each in tokens if not running[each].is_prefill_chunk]
        given = [[7] if each in self.sampled else [] for each in tokens]
        places = {name: place for place, name in enumerate(tokens)}
        self.scheduler.update_from_output(planned, ModelRunnerOutput([*tokens], places, given))
        return tokens

    def decode(self, count: int) -> None:
        """Let so many requests of the first rank run, whose prompts are read."""
        for number in range(count):
            self.add(f"runs-{number}", WITHIN, 1)
        self.step()


class StepEngine(BatchEngine):
    """The model of the engine with vLLM's own steps, which take time by their tokens."""

    def __init__(self, steps: Steps, *sources: Source) -> None:
        super().__init__(*sources, max_wait=1.5)
        self._steps = steps
        self._named: dict[str, QueuedRequest] = {}

    def _start(self, request: QueuedRequest) -> None:
        super()._start(request)
        name = str(len(self._named))
        self._named[name] = request
        rank = ABOVE if self.scheduler.above_share(request) else WITHIN
        self._steps.add(name, rank, request.prompt_tokens, self._output[request])

    def _step_seconds(self) -> float:
        step = self._steps.step()
        decoded = sum(tokens == 1 for tokens in step.values())
        read = sum(step.values()) - decoded
        return BASE_S + DECODED_S * decoded + READ_S * read if step else BASE_S

    def batch(self) -> list[QueuedRequest]:
        return [self._named[each] for each in self._steps.sampled]


def config_of(folder: Path, **arguments: Any) -> Any:
    model = ModelSettings(name="tiny", path=folder)
    engine = ENGINE | {"dtype": "float32", "max_num_batched_tokens": STEP}
    engine |= {"enable_prefix_caching": False, "max_num_seqs": 64} | arguments
    return engine_config(parse_engine_arguments(Settings(model=model, engine=engine)))


@pytest.fixture
def config(tiny_folder: Path) -> Any:
    return config_of(tiny_folder)


@pytest.fixture
def steps(config: Any) -> Steps:
    return Steps(config)


def read(step: Step) -> Step:
    """The prompts' tokens of a step."""
    return {name: tokens for name, tokens in step.items() if not name.startswith("runs")}


def test_a_prompt_within_the_share_is_read_alone_and_others_few_at_a_time(steps: Steps) -> None:
    steps.decode(20)
    for number in range(3):
        steps.add(f"above-{number}", ABOVE, 100)
    steps.add("within", WITHIN, 150)
    assert read(steps.step()) == {"within": 150}
    assert read(steps.step()) == {"within": 1, "above-0": 100, "above-1": 18}
    assert read(steps.step()) == {"within": 1, "above-0": 1, "above-1": 82, "above-2": 34}
    steps.add("next", WITHIN, 60)
    decoding = {"within": 1, "above-0": 1, "above-1": 1}
    assert read(steps.step()) == {"within": 1, "next": 60}
    assert read(steps.step()) == decoding | {"next": 1, "above-2": 66}


def test_a_prompt_within_the_share_is_read_without_others_decoding(steps: Steps) -> None:
    steps.decode(3)
    steps.add("above", ABOVE, 20)
    for _ in range(12):
        steps.step()
    seen = []
    for number in range(12):
        steps.add(f"within-{number}", WITHIN, 50, output=1)
        step = steps.step()
        assert step[f"within-{number}"] == 50
        assert sum(name.startswith("runs") for name in step) == 3
        seen.append(step.get("above", 0))
    assert seen == [0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1]


def test_every_step_decodes_all_that_runs_within_the_share(steps: Steps) -> None:
    steps.decode(10)
    steps.add("long", ABOVE, 700)
    for number in range(20):
        if number % 3 == 0:
            steps.add(f"within-{number}", WITHIN, 50)
        step = steps.step()
        assert sum(name.startswith("runs") for name in step) == 10
        assert all(tokens == 1 for name, tokens in step.items() if name.startswith("runs"))


def test_prompts_of_later_ranks_are_read_though_others_come_in_every_step(steps: Steps) -> None:
    steps.decode(2)
    steps.add("above", ABOVE, 90, output=1)
    steps.add("flex", FLEX, 90, output=1)
    seen = []
    for number in range(10):
        steps.add(f"within-{number}", WITHIN, 30, output=1)
        seen.append(read(steps.step()))
    others = [{name: each[name] for name in ("above", "flex") if name in each} for each in seen]
    assert others == [{}] * 4 + [{"above": 90, "flex": 66}] + [{}] * 4 + [{"flex": 24}]
    within = [[name for name in each if name.startswith("within")] for each in seen]
    assert [len(names) for names in within] == [1, 1, 1, 1, 0, 2, 1, 1, 1, 0]


def test_a_long_prompt_within_the_share_does_not_keep_others_from_theirs(steps: Steps) -> None:
    steps.decode(2)
    steps.add("above", ABOVE, 90)
    steps.add("long", WITHIN, 2000)
    steps.add("longer", WITHIN, 2040)
    read_of_others = [steps.step().get("above", 0) for _ in range(6)]
    assert read_of_others[:5] == [0, 0, 0, 0, 90]


@pytest.mark.parametrize(("rank", "tokens"), [(WITHIN, 512), (FLEX, STEP - 9)])
def test_a_step_reads_no_more_than_a_stream_can_wait_for(
    steps: Steps, rank: Rank, tokens: int
) -> None:
    for number in range(9):
        steps.add(f"{number}", rank, 50)
    assert sum(steps.step().values()) == 450
    steps.add("long", rank, 1500)
    assert steps.step()["long"] == tokens


def test_of_prompts_that_come_together_the_first_are_answered_first(steps: Steps) -> None:
    for number in range(9):
        steps.add(f"{number}", WITHIN, 100)
    assert [len(steps.step()) and len(steps.sampled) for _ in range(2)] == [5, 9]


@pytest.mark.parametrize(("decoding", "tokens"), [(1, [158, 142]), (40, [96, 96, 96, 12])])
def test_flex_is_paced_beside_others(steps: Steps, decoding: int, tokens: list[int]) -> None:
    steps.decode(decoding)
    steps.add("flex", FLEX, 300)
    assert [read(steps.step())["flex"] for _ in tokens] == tokens


def test_no_more_adapters_run_than_have_slots(tiny_folder: Path) -> None:
    steps = Steps(config_of(tiny_folder, enable_lora=True, max_loras=2, max_lora_rank=8))
    steps.add("first", ABOVE, 400, output=30, adapter=1)
    steps.add("second", ABOVE, 400, output=30, adapter=2)
    ended: set[str] = set()
    for number in range(120):
        if number % 3 == 0 and number < 30:
            steps.add(f"within-{number}", WITHIN, 50, output=5, adapter=3 + number % 4)
        ended.update(steps.step())
    assert steps.scheduler.get_request_counts() == (0, 0)
    assert len(ended) == 12


def test_nothing_of_a_held_request_is_lost(steps: Steps) -> None:
    steps.decode(1)
    steps.add("within", WITHIN, 10)
    steps.add("above", ABOVE, 10)
    steps.step()
    assert steps.scheduler.get_request_counts() == (2, 1)
    steps.scheduler.finish_requests("above", RequestStatus.FINISHED_ABORTED)
    steps.step()
    assert steps.scheduler.get_request_counts() == (2, 0)


def test_a_flood_does_not_make_a_light_tenant_wait_for_its_prompts(config: Any) -> None:
    def first_token(neighbour: float) -> float:
        light, other = (Source("light", 2.0, prompt=100), Source("other", neighbour, prompt=100))
        report = StepEngine(Steps(config), light, other).run(100.0)
        assert not report.refused["light"]
        return percentile(report.first_token["light"], 0.95)

    assert first_token(40.0) <= 1.5 * first_token(2.0)
