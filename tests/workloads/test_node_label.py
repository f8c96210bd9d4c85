"""The node's label of its region, from an API server on loopback."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import kubelet as fake
from wattspan.carbon.location import REGION_LABEL
from wattspan.errors import ReadError
from wattspan.workloads import endpoint, node_label
from wattspan.workloads.endpoint import Server

NODE = "/api/v1/nodes/gpu-17"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[fake.Https]:
    """The API server."""
    with fake.https(tmp_path) as running:
        yield running


def asked_of(served: fake.Https) -> str:
    """What the daemon hears at its start."""

    def connect(environ: Mapping[str, str]) -> Server:
        return endpoint.api_server(environ, token_file=served.token_file, ca_file=served.ca_file)

    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(served.port)}
    return node_label.asking("gpu-17", REGION_LABEL, environ, connect)()


def test_the_label_of_this_node_alone_is_asked_for(
    served: fake.Https, caplog: pytest.LogCaptureFixture
) -> None:
    """One GET of the own Node, and no list; a node's name is no path."""
    served.documents[NODE] = {"metadata": {"labels": {REGION_LABEL: "eu-west-3", "other": "x"}}}
    assert asked_of(served) == "eu-west-3"
    assert served.asked == [NODE]
    assert caplog.text == ""
    with pytest.raises(ReadError):
        node_label.label_of(served.server(), "../pods?x", REGION_LABEL)
    assert served.asked[-1] == "/api/v1/nodes/..%2Fpods%3Fx"


@pytest.mark.parametrize("labels", [None, {}, {"other": "x"}, {REGION_LABEL: ""}])
def test_a_node_without_the_label_has_none(
    served: fake.Https, labels: object, caplog: pytest.LogCaptureFixture
) -> None:
    """As on premises: that is no fault, and no line."""
    served.documents[NODE] = {"metadata": {"labels": labels}}
    assert (asked_of(served), caplog.text) == ("", "")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_one_line(served: fake.Https, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon starts without the label, and says what it may not do; the token is in no line."""
    served.status = status
    assert asked_of(served) == ""
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert f"HTTP {status}" in line.getMessage()
    assert REGION_LABEL in line.getMessage()
    assert served.token not in caplog.text


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"metadata": 7}', b'{"metadata": {"labels": 7}}']
)
def test_nonsense_is_no_label(served: fake.Https, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is told as such, and believed in nothing."""
    served.documents[NODE] = body
    assert asked_of(served) == ""
    assert "no Node" in caplog.text


def test_a_server_that_drips_is_left_after_its_time(served: fake.Https) -> None:
    """The start waits so long and no longer."""
    served.documents[NODE] = {"metadata": {"labels": {REGION_LABEL: "eu-west-3"}}}
    served.drip_s = 0.05
    began_s = time.monotonic()
    with pytest.raises(ReadError, match="no answer"):
        node_label.label_of(replace(served.server(), timeout_s=0.3), "gpu-17", REGION_LABEL)
    assert time.monotonic() - began_s < 30
    assert 1 <= node_label.TIMEOUT_S <= 5


def test_outside_a_pod_nobody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """There is no API server; one line says so."""
    assert node_label.asking("gpu-17", REGION_LABEL, {})() == ""
    assert "this is no pod" in caplog.text
