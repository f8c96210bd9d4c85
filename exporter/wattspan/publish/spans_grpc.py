"""Spans to a collector over OTLP/gRPC, with the SDK's exporter and a witness of what the collector answers.

The exporter (1.45) drops the response unread, where a partial success stands.
It offers no way to see it, so its stub is wrapped where it is made; if a later release makes it elsewhere,
nothing is witnessed and therefore nothing is taken for delivered.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from wattspan.publish import spans_sdk
from wattspan.publish.spans import Answer
from wattspan.runs import SpanRecord

_REFUSALS: Final = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})
"""Codes that accuse the request itself; servers in Rust say OUT_OF_RANGE to one that is too large."""


class GrpcDoor:
    """A `Door` over OTLP/gRPC.

    Args:
        place: for the log.
        resource: what the spans are about.
    """

    def __init__(self, place: str, resource: Mapping[str, str]) -> None:
        self.place = place
        self._resource = spans_sdk.resource(resource)
        self._witness = spans_sdk.Witness()
        self._exporter = _WitnessedExporter(self._witness)
        spans_sdk.quieten()

    def send(self, spans: Sequence[SpanRecord]) -> Answer:
        """As `Door.send`."""
        try:
            result = self._exporter.export([spans_sdk.readable(span, self._resource) for span in spans])
        except Exception:  # of a span that cannot be encoded; over HTTP the exporter catches it itself
            return spans_sdk.NOT_SENT
        return self._witness.judge(result)

    def close(self) -> None:
        """As `Door.close`."""
        self._exporter.shutdown()


class _WitnessedExporter(OTLPSpanExporter):
    """The SDK's exporter, whose answers are seen."""

    def __init__(self, witness: spans_sdk.Witness) -> None:
        self._witness = witness
        super().__init__()

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _WitnessedStub(self._client, self._witness)


class _WitnessedStub:
    """Stands between exporter and network."""

    def __init__(self, stub: Any, witness: spans_sdk.Witness) -> None:
        self._stub = stub
        self._witness = witness

    def Export(self, **arguments: Any) -> Any:  # noqa: N802 - the name that the service has
        try:
            response = self._stub.Export(**arguments)
        except grpc.RpcError as error:
            self._witness.saw(_failed(error))
            raise
        self._witness.saw(spans_sdk.acknowledgement(response))
        return response


def _failed(error: Any) -> Answer:
    code = error.code().name
    detail = spans_sdk.printable(f"it answers {code}: {error.details() or ''}")
    return Answer("refused" if code in _REFUSALS else "unavailable", detail=detail)
