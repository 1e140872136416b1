"""Counting an adapter's reads on a manager like vLLM's; the real one is in test_adapters."""

from types import SimpleNamespace

import pytest

from service.vllm.worker import WorkerExtension


class Manager:
    """The two methods of vLLM's WorkerLoRAManager that are wrapped."""

    removed = 0

    def _load_adapter(self, request: SimpleNamespace) -> str:
        if request.lora_int_id < 0:
            raise ValueError("no such file")
        return f"weights {request.lora_int_id}"

    def remove_adapter(self, key: int) -> bool:
        self.removed = key
        return True


def test_the_first_read_is_the_loading_and_every_later_one_counts() -> None:
    manager, worker = Manager(), WorkerExtension()
    worker.model_runner = SimpleNamespace(lora_manager=manager)
    worker.count_adapter_reads()
    for key in (1, 2, 2, 2):
        assert manager._load_adapter(SimpleNamespace(lora_int_id=key)) == f"weights {key}"
    (one, two) = worker.adapter_reads()
    assert one == (1, 0, 0.0)
    assert two[:2] == (2, 2)
    assert two[2] > 0
    assert manager.remove_adapter(2)
    assert manager.removed == 2
    assert worker.adapter_reads() == [one]


def test_a_read_that_fails_is_none() -> None:
    manager, worker = Manager(), WorkerExtension()
    worker.model_runner = SimpleNamespace(lora_manager=manager)
    worker.count_adapter_reads()
    with pytest.raises(ValueError, match="no such file"):
        manager._load_adapter(SimpleNamespace(lora_int_id=-1))
    assert worker.adapter_reads() == []
