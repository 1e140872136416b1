"""A benchmark of LLM services on Locust, which judges runs and rejects invalid ones.

    load/      what is sent and when: arrivals, lengths, workloads, one seeded schedule (pure)
    protocol/  the words of each API: request bodies, SSE, answers (pure)
    analysis/  records to metrics, objectives, validity, one result (pure)
    drive/     Locust: the only package that imports locust or gevent
    report/    the self-contained page, JUnit, console, Markdown

No module outside drive/ imports gevent, because importing Locust patches the whole process.
"""
