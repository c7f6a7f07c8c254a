# SPDX-License-Identifier: Apache-2.0
"""One tree of errors: each says to its user what to do and to the operator what happened."""


class CloudlbError(Exception):
    """Base of all errors that cloudlb raises on purpose.

    ``message`` is for the user: what is wrong and what would be right. ``detail`` is for the
    operator's log: what happened. ``status`` is the HTTP status that the API answers, ``code`` a
    stable machine-readable name, ``field`` the part of the request that is at fault, if one is.
    """

    status = 500
    code = "internal"

    def __init__(self, message: str, detail: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail or message
        self.field = field


class InvalidRequest(CloudlbError):
    """The request contradicts the schema or the state of the world; changing it helps."""

    status = 400
    code = "invalid"


class Forbidden(CloudlbError):
    """The caller may not do this; somebody else may."""

    status = 403
    code = "forbidden"


class NotFound(CloudlbError):
    """No such object for this caller."""

    status = 404
    code = "not-found"


class Conflict(CloudlbError):
    """The request collides with something that exists."""

    status = 409
    code = "conflict"


class StaleGeneration(CloudlbError):
    """If-Match named a generation that is not the current one (RFC 9110, section 13.1.1)."""

    status = 412
    code = "stale-generation"


class Unsupported(InvalidRequest):
    """A driver cannot do what is asked; the message names those that can."""

    code = "unsupported"


class Unavailable(CloudlbError):
    """A part that is needed for the answer does not answer; trying later helps."""

    status = 503
    code = "unavailable"


class EngineError(CloudlbError):
    """The kernel or a library refused what an engine asked of it."""

    code = "engine"


class Misconfigured(CloudlbError):
    """A process cannot start as its configuration says; the message names the option."""

    code = "misconfigured"
