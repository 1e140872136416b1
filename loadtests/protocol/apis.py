"""The APIs by name."""

from loadtests.load.scenario import Scenario, ScenarioError
from loadtests.load.workloads import Classify, Decide
from loadtests.protocol.api import Api, ApiName
from loadtests.protocol.native import Native
from loadtests.protocol.openai import OpenAI
from loadtests.protocol.vllm import Logprobs, Pooling, Scoring, SystemOne


def open_api(name: ApiName, scenario: Scenario) -> Api:
    """The API; raises ScenarioError where it cannot express one of the scenario's workloads."""
    if name == "native":
        return Native()
    if name == "systemone":
        return SystemOne()
    if name == "vllm-pooling":
        return Pooling(chat=True)
    for workload in scenario.workloads:
        if isinstance(workload, Decide):
            raise ScenarioError(
                f"workload {workload.label!r} asks questions, which need the API native or "
                f"systemone, got {name}"
            )
        if isinstance(workload, Classify) and not workload.labels:
            raise ScenarioError(
                f"workload {workload.label!r} must have labels over {name}: "
                "such a server knows no label set of its own"
            )
    match name:
        case "vllm-scoring":
            return Scoring(chat=True)
        case "vllm-logprobs":
            return Logprobs(chat=True)
        case _:
            return OpenAI(chat=name == "openai-chat")
