"""CPU cost of a token and of a request in the API process, with a mock engine on other cores.

    python -m tools.frontend --rounds 5 --out loadtests/out/frontend

starts this service, with keys, and `vllm serve` on the mock engine, keeps the API process to the
first core and everything else to the others, and gives both the same load in turns. Figures are
medians over the rounds. Ratios are medians of each round's ratio, ours over theirs: below 1 is
better, except for tokens/s. CPU is that of all threads of the API process only. If streams have a
rate, TTFT counts from the write of a request, and ITL is the time between reads that brought
events. "Saturated" is the highest rate of 64 streams at which 95% of the tokens have an event of
their own.
"""
