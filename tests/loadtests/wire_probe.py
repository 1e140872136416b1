"""Run as a process of its own, because it imports gevent: one exchange for each case.

Reads `{host, hasty, cases: [[api, model, hang_up], ...]}`, writes a record for each. Only the case
of the model `hasty` gives up, after 1.5 s.
"""

import json
import sys
from time import perf_counter

from loadtests.drive.wire import Wire, encode
from loadtests.load.plan import Call
from loadtests.load.text import Message
from loadtests.processes import PATIENCE_S
from loadtests.protocol.native import Native
from loadtests.protocol.openai import OpenAI
from loadtests.protocol.record import record_of


def main() -> None:
    order = json.load(sys.stdin)
    patient, hasty = (Wire(order["host"], each, connections=100) for each in (PATIENCE_S, 1.5))
    start = perf_counter()
    rows = []
    for number, (name, model, hang_up) in enumerate(order["cases"]):
        api = Native() if name == "native" else OpenAI(chat=True)
        call = Call(
            index=number,
            turn=0,
            at=0.0,
            stage="x1",
            workload="chat",
            tenant="default",
            model=model,
            messages=(Message("user", "hello"),),
            max_tokens=8,
            cancel_after=hang_up,
        )
        request = api.request(call)
        headers = {"Content-Type": "application/json", "X-Request-Id": str(number)}
        wire = hasty if model == order["hasty"] else patient
        exchange = wire.exchange(request, encode(request), headers, start, hang_up)
        record, text = record_of(call, exchange, api, 0)
        rows.append(record.row() | {"text": text, "start": start})
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
