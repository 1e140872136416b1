"""Values of the chart with which no request is refused or ended because the machine is slow.

With default limits the service refuses requests that would wait too long and ends those of a
stalled engine. The long checks test something else: that a restart loses no request.
"""

from typing import Any

SECONDS = 600
"""Time without progress after which the long checks report a hang."""

PATIENT: dict[str, Any] = {
    "config": {
        "admission": {
            "max_wait_ms": SECONDS * 1000,
            "default_timeout_ms": SECONDS * 1000,
            "target_token_ms": SECONDS * 1000,
        },
        "watchdog": {"stall_s": SECONDS / 2},
        "drain": {"budget_s": SECONDS / 2},
    },
    "terminationGracePeriodSeconds": SECONDS,
}
