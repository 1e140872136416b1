"""An engine without a model and with hardly any CPU cost, for vLLM's own front ends.

    python -m tools.mock_engine --rate 40 vllm.entrypoints.openai.api_server --model FOLDER

runs that module as `python -m` would, with this engine in the place of vLLM's engine process. The
messages, sockets and handshake are vLLM's own; only what is between reading a request and writing a
step's outputs is replaced.
"""
