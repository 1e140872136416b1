"""LiteLLM's proxy before the service, as a gateway."""

import json
import secrets
import sys
import tempfile
from pathlib import Path

from gateway import Through, started, try_openai
from tried import ENCODER, MODEL, TOOLS, URL

KEY = f"sk-{secrets.token_hex(16)}"  # it does not start without one
CONFIG = {
    "model_list": [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"{URL}/v1",
                "api_key": "none",
            },
        }
        for name in (MODEL, TOOLS, ENCODER)
    ]
}

with tempfile.TemporaryDirectory() as folder:
    config = Path(folder) / "config.yaml"
    config.write_text(json.dumps(CONFIG))
    program = [Path(sys.executable).with_name("litellm"), "--config", config]
    # Its table of prices comes with the package.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
    with started(program, ready="/health/liveliness", **environment) as url:
        try_openai(Through(url, KEY))
