"""Costs of a token and a request to the API process, on a mock engine with cores of its own.

    python -m tools.frontend --rounds 5 --out loadtests/out/frontend

starts this service, with keys, and `vllm serve` on the mock engine, keeps the API process to the
first core and everything else to the others, and gives both the same load in turns. Figures are
medians of the rounds, ratios those of the rounds' own ratios, ours over theirs: below 1 is better,
except for tokens/s. CPU is that of all threads of the API process only. If streams have a rate,
TTFT counts from the write of a request, and ITL is the time between reads that brought events.
"Saturated" is the highest rate of 64 streams at which 95% of the tokens have an event of their own.
"""
