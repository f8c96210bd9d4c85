"""The view as OpenTelemetry's hardware metrics, for who asks with OTEL_METRICS_EXPORTER=otlp.

An endpoint alone does not turn them on: beside Prometheus they would be every joule a second time.
Names and attributes are of opentelemetry.io/docs/specs/semconv/hardware (Development, 1.44).
`hw.host.power` is only of a sensor that covers the whole box; the sum over parts is no such thing, so there
is no `hw.host.energy`.
How often is OTEL_METRIC_EXPORT_INTERVAL, 60 s by default. What is not delivered is told by the next export.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from wattspan.model import GpuState, HostState, LedgerView
from wattspan.publish import ViewDoor
from wattspan.publish.spans_otlp import check_files, missing_package, protocol
from wattspan.units import UJ_PER_J, UW_PER_W

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

logger = logging.getLogger(__name__)

Point = tuple[float, Mapping[str, str]]
"""A value in the metric's unit, and its attributes."""

WHOLE_BOX: Final = ("ipmi-", "demo-bmc")
"""Beginnings of the names of platform sensors that cover the whole host; others cover a socket or module."""

_TYPES: Final = {"cpu": "cpu", "dram": "memory"}


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the operator has asked for them."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return "otlp" in {name.strip() for name in environ.get("OTEL_METRICS_EXPORTER", "").split(",")}


def energy(view: LedgerView) -> Iterator[Point]:
    """`hw.energy`, J: of each GPU and each measured part of the host, never of the whole."""
    counted = view.counters.get("gpu_energy", {})
    for state in view.gpus:
        methods = [uj for (uuid, _), uj in counted.items() if uuid == state.gpu.uuid]
        if methods:
            yield sum(methods) / UJ_PER_J, _gpu(state)
    host = view.counters.get("host_energy", {})
    for part in _measured(view):
        if (part.component, part.device) in host:
            yield host[part.component, part.device] / UJ_PER_J, _part(part)


def power(view: LedgerView) -> Iterator[Point]:
    """`hw.power`, W: of the same; absent where the reading failed."""
    for state in view.gpus:
        if state.reading is not None and state.reading.power_uw is not None:
            yield state.reading.power_uw / UW_PER_W, _gpu(state)
    for part in _measured(view):
        if part.power_uw is not None:
            yield part.power_uw / UW_PER_W, _part(part)


def host_power(view: LedgerView) -> Iterator[Point]:
    """`hw.host.power`, W: of the sensors that cover the whole box."""
    for sensor in view.platforms:
        if sensor.sensor.startswith(WHOLE_BOX):
            yield sensor.power_uw / UW_PER_W, {"hw.id": sensor.sensor}


class MetricExport:
    """Exports the newest view now and then, in a thread of the SDK, until closed.

    Args:
        door: where views are.
        environ: of this process, which the SDK reads too.
        resource: what they are about; see `wattspan.publish.spans_otlp.resource_of`.

    Raises:
        SetupError: a setting that cannot work, or a package that is missing.
    """

    def __init__(self, door: ViewDoor, environ: Mapping[str, str], resource: Mapping[str, str]) -> None:
        check_files(environ, "METRICS_")
        chosen = protocol(environ, "METRICS_")
        try:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            from wattspan.publish import spans_sdk

            reader = PeriodicExportingMetricReader(_exporter(chosen))
        except ImportError as error:
            raise missing_package("metrics", chosen, error) from error
        self._provider = MeterProvider([reader], spans_sdk.resource(resource), shutdown_on_exit=False)
        spans_sdk.quieten()
        meter = self._provider.get_meter("wattspan", schema_url=spans_sdk.SCHEMA_URL)
        meter.create_observable_counter("hw.energy", [_callback(door, energy)], "J")
        meter.create_observable_gauge("hw.power", [_callback(door, power)], "W")
        meter.create_observable_gauge("hw.host.power", [_callback(door, host_power)], "W")

    def close(self, timeout_s: float) -> None:
        """Export once more, if that is done in time, and end."""
        self._provider.shutdown(timeout_s * 1000)


def _exporter(chosen: str) -> "MetricExporter":
    """The SDK's exporter, which says it once when it fails and once when it works again."""
    if chosen == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        exporter: MetricExporter = Grpc()
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

        exporter = Http()
    export, failing = exporter.export, threading.Event()

    def told(*args: Any, **kwargs: Any) -> "MetricExportResult":
        result = export(*args, **kwargs)
        if result.name != "SUCCESS" and not failing.is_set():
            failing.set()
            logger.warning("metrics: the collector does not take them over %s; they are told again", chosen)
        elif result.name == "SUCCESS" and failing.is_set():
            failing.clear()
            logger.info("metrics: the collector takes them again")
        return result

    exporter.export = told  # type: ignore[method-assign]
    return exporter


def _callback(
    door: ViewDoor, points: Callable[[LedgerView], Iterable[Point]]
) -> Callable[["CallbackOptions"], Iterable["Observation"]]:
    from opentelemetry.metrics import Observation

    return lambda _: [Observation(value, attributes) for value, attributes in points(door.view)]


def _measured(view: LedgerView) -> list[HostState]:
    return [part for part in view.hosts if not part.estimated]


def _gpu(state: GpuState) -> Mapping[str, str]:
    attributes = {
        "hw.id": state.gpu.uuid,
        "hw.type": "gpu",
        "hw.name": state.gpu.model,
        "hw.model": state.gpu.model,
        "hw.vendor": state.gpu.vendor,
        "hw.driver_version": state.gpu.driver_version,
    }
    return {name: value for name, value in attributes.items() if value}


def _part(part: HostState) -> Mapping[str, str]:
    return {
        "hw.id": f"{part.component}:{part.device}",
        "hw.type": _TYPES[part.component],
        "hw.name": part.device,
    }
