"""The HTTP surface under everything that schemathesis and hypothesis think of."""

import http.client
import logging
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.publish.runs import POD, finished, loopback_is, office, over_tcp, record
from tests.publish.serving import ask, connect, hears_the_end
from tests.publish.views import filled
from wattspan.publish import openapi
from wattspan.publish.connection import Limits
from wattspan.publish.exposition import Exposition

schema = schemathesis.openapi.from_dict(openapi.document("0.1.0", runs=True))

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789;,=*/+.\"'() -_", max_size=60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """One server for all of this."""
    impatient = Limits(request_s=0.2, answer_s=5.0, idle_s=5.0)
    records = record(), finished(record("eval-1"))
    render = Exposition(3000).render
    with (
        office(*records, pods=loopback_is(POD)) as runs,
        over_tcp(runs.api, render=render, limits=impatient) as number,
    ):
        yield number


@schema.parametrize()
@settings(max_examples=15, deadline=None)
def test_every_answer_is_as_described(case: schemathesis.Case, port: int) -> None:
    """No request makes an answer that the description does not promise, nor a 5xx that it does not name."""
    case.call_and_validate(base_url=f"http://127.0.0.1:{port}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", "FOO", "get"]),
    path=st.text("/abcmetrics-.~%0123456789?&=#api_v1", max_size=40),
    headers=st.dictionaries(
        st.sampled_from(["Accept", "Accept-Encoding", "Authorization", "Range", "If-None-Match", "Cookie"]),
        TOKENS,
    ),
    body=st.binary(max_size=200),
)
def test_no_well_formed_request_is_our_error(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    """Paths, methods, headers and bodies of any kind get an answer below 500."""
    try:
        answer = ask(port, "/" + path, method, headers=headers, body=body)
    except http.client.RemoteDisconnected:
        pytest.fail("cut off without an answer")
    assert answer.status < 500


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.binary(min_size=1, max_size=300)
    | st.binary(max_size=100).map(b"GET /metrics HTTP/1.1\r\n".__add__)
)
def test_no_bytes_harm_the_server(port: int, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Any bytes at all end in an answer or a closed connection, and leave no line in the log."""
    with connect(port, timeout_s=10) as client:
        client.sendall(garbage)
        client.shutdown(1)
        assert hears_the_end(client)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_after_all_that_it_serves(port: int) -> None:
    """The same server still answers a scrape."""
    answer = ask(port, "/metrics")
    assert answer.status == 200
    assert filled().gpus[0].gpu.uuid.encode() in answer.body
