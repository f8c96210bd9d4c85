"""What a service on the network does wrong, for the tests of all who ask one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from tests.fakes.grid_service import Answer, GridService, cut_off, page
from wattspan.carbon.http import MAX_BODY_BYTES
from wattspan.errors import FetchError, FetchReason

TIMEOUT_S: Final = 0.5
"""Of the client in tests of a slow service; the service waits a hundred times as long."""


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        name: for the test's id.
        answer: what comes instead of a good one.
        reason: that the failure is counted under.
        retry_after_s: how long the service asks to be left alone.
    """

    name: str
    answer: Answer
    reason: FetchReason
    retry_after_s: float | None = None


FAULTS: Final = (
    Fault("slow", Answer(delay_s=100 * TIMEOUT_S, json={}), "timeout"),
    Fault("401", Answer(status=401, json={"error": "no"}), "refused"),
    Fault("403", Answer(status=403, json={"error": "no"}), "refused"),
    Fault("429", Answer(status=429, headers={"Retry-After": "17"}, json={}), "throttled", 17.0),
    Fault("500", Answer(status=500, json={"error": "no"}), "server"),
    Fault("truncated", cut_off(Answer(body=b'{"a": [1, 2')), "malformed"),
    Fault("empty", Answer(body=b""), "malformed"),
    Fault("null", Answer(json=None), "malformed"),
    Fault("login page", page(), "malformed"),
    Fault("10 MB", Answer(body=b" " * (10 << 20)), "malformed"),
    Fault("elsewhere", Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}, json={}), "malformed"),
)

assert len(FAULTS[9].answer.body or b"") > MAX_BODY_BYTES

FAULT_IDS: Final = [fault.name for fault in FAULTS]

# A header that cannot be parsed: urllib3 warns of it, and would name the whole URL.
ODD_HEADERS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nno header at all\r\nContent-Length: 4\r\n\r\nnull"
)


def failure_of(ask: Callable[[], object]) -> FetchError:
    """How asking fails."""
    with pytest.raises(FetchError) as caught:
        ask()
    return caught.value


def require_fault(service: GridService, fault: Fault, ask: Callable[[], object]) -> None:
    """See to it that asking a service with a fault fails under the fault's reason."""
    service.says("*", fault.answer)
    error = failure_of(ask)
    assert (error.reason, error.retry_after_s) == (fault.reason, fault.retry_after_s), error.detail


def require_secrecy(
    service: GridService, secret: str, ask: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """See to it that a secret reaches the service, and neither an error's text nor the log.

    The log is that of a daemon at its most talkative: foreign libraries are heard from warnings on.
    """
    caplog.set_level(logging.WARNING)
    caplog.set_level(logging.DEBUG, logger="wattspan")
    for answer in (
        *(fault.answer for fault in FAULTS),
        Answer(raw=ODD_HEADERS),
        Answer(json={"odd": secret}),
    ):
        service.says("*", answer)
        error = failure_of(ask)
        assert secret not in str(error)
        assert secret not in error.detail
    assert service.first, "some of them have come, however short a question was"
    assert all(secret in str((request.target, request.headers)) for request in service.requests)
    assert secret not in caplog.text
