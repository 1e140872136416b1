"""A benchmark for LLM services on Locust: measured, judged, and refused when it is not valid.

    load/      what is sent and when: arrivals, lengths, workloads, one seeded schedule (pure)
    protocol/  the words of each API: request bodies, SSE, answers (pure)
    analysis/  records to metrics, objectives, validity, one result (pure)
    drive/     Locust: the only package that imports locust or gevent
    report/    the self-contained page, JUnit, console, Markdown

Nothing outside drive/ imports gevent, because importing Locust patches the whole process.
"""
