"""Errors that a caller can see, in one tree; this module imports nothing of the service.

ConfigurationError is outside the tree, because no caller sees it: it ends the start with a message.
"""

import math
import random
from typing import ClassVar, Self

_LONGEST_RETRY_S = 60.0


class ServiceError(Exception):
    """The service failed; the message is safe to show: no path, address or stack."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    code: str = "internal"
    outcome: ClassVar[str] = "error"
    router_status: ClassVar[int | None] = None
    """Status behind a router of replicas, where it is another one than `status`."""

    def __init__(
        self,
        message: str = "The server failed to answer this request.",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.retry_after = retry_after

    def status_for(self, *, router: bool) -> int:
        """The status; for a router only that of a replica to be left alone is 503."""
        return self.router_status or self.status if router else self.status

    def headers(self) -> dict[str, str]:
        """Headers of the answer that say when to try again, if retrying helps.

        `retry-after` is in whole seconds, at least 1. OpenAI's and Anthropic's SDKs prefer
        `retry-after-ms`, which gets up to 50 % of random jitter, so that clients that were refused
        together do not retry together; these SDKs ignore values above a minute.
        """
        if self.retry_after is None:
            return {}
        seconds = max(1, math.ceil(self.retry_after))
        spread = min(random.uniform(1, 1.5) * self.retry_after, _LONGEST_RETRY_S)
        milliseconds = math.ceil(1000 * max(spread, self.retry_after))
        return {"retry-after": str(seconds), "retry-after-ms": str(milliseconds)}

    def body(self, request_id: str) -> dict[str, object]:
        """The body that every HTTP error has."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "code": self.code,
                "param": self.param,
                "request_id": request_id,
            }
        }


class InvalidRequest(ServiceError):
    """The request is not valid; the message names the field, the limit and the value given."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    outcome = "invalid"

    @classmethod
    def at(cls, field: str, problem: str) -> Self:
        """The error of a field; the message begins with the field's name."""
        return cls(f"{field}: {problem}", param=field)


class UnsupportedFeature(InvalidRequest):
    """A known field that this service does not support."""

    code = "unsupported"


class InputFlagged(InvalidRequest):
    """A guard of the tenant's policy flagged the input; the message never holds its text."""

    code = "input_flagged"


class OutputFlagged(InvalidRequest):
    """A guard of the tenant's policy flagged the answer; the message never holds its text."""

    code = "output_flagged"


class UnsupportedMediaType(InvalidRequest):
    """The body's Content-Type or Content-Encoding is not one that the route reads."""

    status = 415
    code = "unsupported_media_type"


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the limit."""

    status = 413
    code = "payload_too_large"


class RangeNotSatisfiable(InvalidRequest):
    """The content has `size` bytes, and the requested range lies outside of it."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, message: str, *, param: str, size: int) -> None:
        super().__init__(message, param=param)
        self.size = size

    def headers(self) -> dict[str, str]:
        return super().headers() | {"content-range": f"bytes */{self.size}"}


class HeadersTooLarge(InvalidRequest):
    """The request's head is larger than the limit."""

    status = 431
    code = "headers_too_large"


class Unauthenticated(ServiceError):
    """The request has no key, or an unknown, expired or revoked one."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    outcome = "refused"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "www-authenticate": "Bearer"}


class Forbidden(ServiceError):
    """The caller, or the web page that made the request, may not use this port in this way."""

    status = 403
    type = "permission_error"
    code = "forbidden"
    outcome = "refused"


class NotFound(ServiceError):
    """Model, adapter or path that does not exist, or that the caller may not use."""

    status = 404
    type = "not_found_error"
    code = "not_found"
    outcome = "invalid"


class MethodNotAllowed(ServiceError):
    """The route exists, but only with the methods in `allow`."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    outcome = "invalid"
    allow: str | None = None

    def headers(self) -> dict[str, str]:
        return super().headers() | ({"allow": self.allow} if self.allow else {})


class Conflict(ServiceError):
    """The request conflicts with the service's present state, and changed nothing."""

    status = 409
    type = "conflict_error"
    code = "conflict"
    outcome = "refused"


class RequestTimeout(ServiceError):
    """The client was too slow to send its request."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    outcome = "invalid"


class TooManyRequests(ServiceError):
    """The tenant is over its own quota or share."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"
    outcome = "refused"


class Unavailable(ServiceError):
    """The server cannot take this request now; another try may succeed.

    Routers take a 503 for a replica that fails, and after a few send it nothing of anybody's.
    """

    status = 503
    router_status: ClassVar[int | None] = 429
    type = "unavailable_error"
    code = "unavailable"
    outcome = "refused"


class QueueFull(Unavailable):
    """The bounded queue in front of the engine is full."""

    code = "queue_full"


class TooManyConnections(Unavailable):
    """The server has its maximum number of connections."""

    code = "too_many_connections"


class NotReady(Unavailable):
    """The server is starting or draining."""

    router_status = None
    code = "not_ready"


class AdapterQuarantined(Unavailable):
    """The adapter failed verification or proof and is not served."""

    code = "adapter_quarantined"


class EncoderQuarantined(Unavailable):
    """The encoder could not start and is not served."""

    code = "encoder_quarantined"


class GuardFailed(Unavailable):
    """A guard could not judge a text."""

    code = "guard_failed"


class EngineDead(Unavailable):
    """The engine ended; running requests cannot be answered."""

    router_status = None
    code = "engine_dead"
    outcome = "error"

    @classmethod
    def midway(cls) -> Self:
        """The error of a request that was running."""
        return cls("The engine ended before the answer was complete.", retry_after=5)


class EngineStalled(Unavailable):
    """The engine makes no steps; it may recover."""

    router_status = None
    code = "engine_stalled"
    outcome = "error"


class DeadlineExceeded(ServiceError):
    """The request's deadline passed while it waited or ran.

    Routers take a 504 for a replica that fails, while clients choose their deadlines.
    """

    status = 504
    router_status: ClassVar[int | None] = 408
    type = "timeout_error"
    code = "deadline_exceeded"
    outcome = "deadline"

    def headers(self) -> dict[str, str]:
        # SDKs would send it again, for as long, while its caller has stopped waiting.
        return super().headers() | {"x-should-retry": "false"}


class ConfigurationError(Exception):
    """The configuration or a model, adapter or key file cannot be used; ends the start."""


class Interrupted(ConfigurationError):
    """A signal asked a start to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the start was ended by signal {number}")
        self.number = number
