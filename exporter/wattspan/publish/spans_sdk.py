"""Our records as the SDK's spans, and the SDK's answers as ours: what both doors share."""

import logging
from collections.abc import Mapping
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from wattspan import __version__
from wattspan.publish.spans import Answer
from wattspan.runs import SpanRecord

SCHEMA_URL: Final = "https://wattspan.io/schemas/1.0.0"
"""Of the attributes' names; the version changes when one of them does."""

_SCOPE: Final = InstrumentationScope("wattspan", __version__, SCHEMA_URL)
_DETAIL_MAX: Final = 200


class Witness:
    """Keeps the last answer of the collector, which the SDK's exporters do not pass on."""

    def __init__(self) -> None:
        self._answer: Answer | None = None

    def saw(self, answer: Answer) -> None:
        """Keep an answer; the exporters try more than once, and the last one counts."""
        self._answer = answer

    def judge(self, result: SpanExportResult) -> Answer:
        """What came of an export, which is then forgotten. Success without an answer seen is none."""
        answer, self._answer = self._answer, None
        if answer is not None:
            return answer
        if result is SpanExportResult.SUCCESS:
            return Answer("unavailable", detail="no answer was seen")
        return NOT_SENT


NOT_SENT: Final = Answer("refused", detail="the request could not be made")
"""A span that cannot be encoded, or a request that is too large."""


def resource(attributes: Mapping[str, str]) -> Resource:
    """The resource of all spans; OpenTelemetry's environment has the last word."""
    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


def readable(span: SpanRecord, about: Resource) -> ReadableSpan:
    """A record as the exporters take it, with the record's own ids and times."""
    parent = _context(span.trace_id, span.parent_span_id) if span.parent_span_id else None
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=parent,
        resource=about,
        attributes=dict(span.attributes),
        links=[Link(_context(trace_id, span_id)) for trace_id, span_id in span.links],
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error_type) if span.error_type else Status(),
        start_time=span.start_wall_ns,
        end_time=span.end_wall_ns,
        instrumentation_scope=_SCOPE,
    )


def acknowledgement(response: ExportTraceServiceResponse) -> Answer:
    """What an answer of success really says: with rejected spans it is none."""
    partial = response.partial_success
    if partial.rejected_spans > 0:
        return Answer(
            "refused", partial.rejected_spans, printable(partial.error_message) or "no reason given"
        )
    return Answer("accepted")


def quieten() -> None:
    """Silence the exporters' own log: they write a line for every try, and ours say it once."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL + 1)


def printable(text: str) -> str:
    """Somebody else's text on one line of bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_DETAIL_MAX]).strip()


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
