"""Spans to a collector over OTLP/HTTP, with the SDK's exporter and a witness of what the collector answers.

The exporter (1.45) takes any status from 200 to 399 for success and never reads the body, where a partial
success stands; so the answer is read here, in an adapter of the session that the exporter is given.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import requests
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from requests.adapters import BaseAdapter

from wattspan.publish import spans_sdk
from wattspan.publish.spans import Answer
from wattspan.runs import SpanRecord

_REFUSALS: Final = frozenset({400, 413, 422})
"""Statuses that accuse the request itself; any other says that the collector or the way to it is at fault."""

_BINARY: Final = frozenset({"", "application/x-protobuf", "application/protobuf", "application/octet-stream"})

_PROVIDER_VARIABLES: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)
_PROVIDER_GROUP: Final = "opentelemetry_otlp_credential_provider"
"""Where packages offer sessions with credentials; read here since the exporter is given a session."""


class HttpDoor:
    """A `Door` over OTLP/HTTP.

    Args:
        place: for the log.
        resource: what the spans are about.

    Raises:
        RuntimeError: a credential provider is named that is not installed.
    """

    def __init__(self, place: str, resource: Mapping[str, str]) -> None:
        self.place = place
        self._resource = spans_sdk.resource(resource)
        self._witness = spans_sdk.Witness()
        session = _session()
        adapter = _WitnessedAdapter(session, self._witness)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._exporter = OTLPSpanExporter(session=session)
        spans_sdk.quieten()

    def send(self, spans: Sequence[SpanRecord]) -> Answer:
        """As `Door.send`."""
        result = self._exporter.export([spans_sdk.readable(span, self._resource) for span in spans])
        return self._witness.judge(result)

    def close(self) -> None:
        """As `Door.close`."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _WitnessedAdapter(BaseAdapter):
    """Stands between session and network, in front of the adapter that the session has."""

    def __init__(self, session: requests.Session, witness: spans_sdk.Witness) -> None:
        super().__init__()
        self._session = session
        self._adapter = session.get_adapter("https://")
        self._witness = witness

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if isinstance(self._session.verify, str):
            # OTEL_EXPORTER_OTLP_CERTIFICATE; requests would let REQUESTS_CA_BUNDLE go first.
            kwargs["verify"] = self._session.verify
        try:
            response = self._adapter.send(request, *args, **kwargs)
            self._witness.saw(_answer(response))
        except Exception as error:
            self._witness.saw(Answer("unavailable", detail=_reason(error)))
            raise
        return response

    def close(self) -> None:
        self._adapter.close()


def _session() -> requests.Session:
    name = next((os.environ[name] for name in _PROVIDER_VARIABLES if os.environ.get(name)), "")
    if not name:
        return requests.Session()
    for provider in entry_points(group=_PROVIDER_GROUP, name=name):
        session = provider.load()()
        if isinstance(session, requests.Session):
            return session
    raise RuntimeError(f"no credential provider {name!r} gives a session of requests")


def _answer(response: requests.Response) -> Answer:
    """What a response says, body included; reading that may raise as the request itself does."""
    body = response.content
    if not 200 <= response.status_code < 300:
        detail = spans_sdk.printable(f"it answers {response.status_code} {response.reason or ''}")
        if response.status_code in _REFUSALS:
            return Answer("refused", detail=detail)
        asked_s = _seconds(response.headers.get("Retry-After", ""))
        return Answer("unavailable", detail=detail, retry_after_s=asked_s)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        if not body or kind in _BINARY:
            return spans_sdk.acknowledgement(ExportTraceServiceResponse.FromString(body))
        if kind == "application/json":
            told = json_format.Parse(body, ExportTraceServiceResponse(), ignore_unknown_fields=True)
            return spans_sdk.acknowledgement(told)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError):
        return Answer("unavailable", detail=f"it answers {response.status_code} with a body that is no OTLP")
    kind = spans_sdk.printable(kind)
    return Answer("unavailable", detail=f"it answers {response.status_code} with {kind}, which is no OTLP")


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header; a date in it counts as not said, for clocks differ."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0


def _reason(error: BaseException) -> str:
    """Why there was no answer: the system's words where it has some. Never a URL, which may hold secrets."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        reason = getattr(cause, "reason", None)
        nested = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = reason if isinstance(reason, BaseException) else nested or cause.__cause__
    return type(error).__name__
