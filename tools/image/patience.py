"""Values of the chart under which a busy machine's slowness refuses and ends nothing.

By its own limits the service refuses what would wait too long and ends what stalls. The long checks
ask another question: whether a restart loses anything.
"""

from typing import Any

SECONDS = 600
"""Time without any progress that the long checks take for a hang."""

PATIENT: dict[str, Any] = {
    "config": {
        "gate": {
            "max_wait_ms": SECONDS * 1000,
            "default_timeout_ms": SECONDS * 1000,
            "target_token_ms": SECONDS * 1000,
        },
        "watchdog": {"stall_s": SECONDS / 2},
        "drain": {"budget_s": SECONDS / 2},
    },
    "terminationGracePeriodSeconds": SECONDS,
}
