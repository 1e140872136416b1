"""mem0: texts are kept as vectors and searched, and the model sums up a procedure."""

import os
import tempfile

os.environ["MEM0_TELEMETRY"] = "False"

from mem0 import Memory
from tried import ENCODER, MODEL, URL, expect, tried

texts = ["The cat sits outside.", "Quarterly revenue rose.", "A plane takes off."]


def memory(folder):
    os.environ["MEM0_DIR"] = folder
    store = {"path": f"{folder}/store", "embedding_model_dims": 384}
    embedder = {
        "model": ENCODER,
        "openai_base_url": f"{URL}/v1",
        "api_key": "none",
        "embedding_dims": 384,
    }
    model = {"model": MODEL, "vllm_base_url": f"{URL}/v1", "max_tokens": 64}
    return Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "embedder": {"provider": "openai", "config": embedder},
            "llm": {"provider": "vllm", "config": model},
            "history_db_path": f"{folder}/history.db",
        }
    )


with tempfile.TemporaryDirectory() as folder:
    kept = memory(folder)

    @tried("memories that are added and searched")
    def search():
        for text in texts:
            kept.add(text, user_id="a", infer=False)
        found = kept.search("What did the company earn?", filters={"user_id": "a"}, top_k=1)
        expect(found["results"][0]["memory"], texts[1])

    # To draw facts it asks with 8,000 tokens, four times what the demo model reads.
    @tried("procedure that the model sums up")
    def procedure():
        done = [{"role": "user", "content": "Open the valve, then start the pump."}]
        found = kept.add(done, agent_id="b", memory_type="procedural_memory")
        assert found["results"][0]["memory"]
