"""OpenTelemetry's hardware metrics: the same figures as everywhere, for who asks for them."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.collector import Rotel
from tests.publish.test_spans import IMPATIENT, RESOURCE, named
from tests.publish.views import EMPTY, TAKEN_AT_NS, Door, filled
from wattspan.errors import SetupError
from wattspan.model import HostState, PlatformReading
from wattspan.publish import otlp_metrics
from wattspan.units import UW_PER_W


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_metrics_are_asked_for_by_name(environ: dict[str, str], wanted: bool) -> None:
    """An endpoint for spans does not make every joule appear twice."""
    assert otlp_metrics.wanted(environ) is wanted


def test_energy_is_of_parts_and_measured() -> None:
    """Each GPU once over its methods, each measured part of the host, no estimate and no sum."""
    view = filled(gpus=1)
    found = {attributes["hw.id"]: (value, attributes) for value, attributes in otlp_metrics.energy(view)}
    lost = view.gpus[1].gpu.uuid
    gpu = view.gpus[0].gpu
    assert set(found) == {gpu.uuid, lost, "cpu:package-0"}
    assert found[gpu.uuid] == (
        4_503_599_627.370495,
        {
            "hw.id": gpu.uuid,
            "hw.type": "gpu",
            "hw.name": "NVIDIA H100",
            "hw.model": "NVIDIA H100",
            "hw.vendor": "nvidia",
            "hw.driver_version": "580.65.06",
        },
    )
    assert found["cpu:package-0"] == (
        17.0,
        {"hw.id": "cpu:package-0", "hw.type": "cpu", "hw.name": "package-0"},
    )


def test_power_is_absent_where_the_reading_failed() -> None:
    """Lost GPUs have no power, estimates are no measurement, and of the platform a BMC alone is the host."""
    estimate = HostState("dram", "package-0", 5 * UW_PER_W, estimated=True)
    view = filled(gpus=1)
    view = replace(view, hosts=(view.hosts[0], estimate))
    assert [(value, point["hw.id"]) for value, point in otlp_metrics.power(view)] == [
        (350.123456, view.gpus[0].gpu.uuid),
        (90.0, "cpu:package-0"),
    ]
    assert list(otlp_metrics.host_power(view)) == []
    bmc = PlatformReading("ipmi-dcmi-0", TAKEN_AT_NS, 1_200 * UW_PER_W)
    with_bmc = replace(view, platforms=(*view.platforms, bmc))
    assert list(otlp_metrics.host_power(with_bmc)) == [(1_200.0, {"hw.id": "ipmi-dcmi-0"})]


def test_nothing_is_told_before_the_first_view() -> None:
    """No reading is not 0 J."""
    for points in (otlp_metrics.energy, otlp_metrics.power, otlp_metrics.host_power):
        assert list(points(EMPTY)) == []


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_real_collector_gets_metrics(protocol: str, tmp_path: Path) -> None:
    """Names, units, values and the resource arrive over HTTP and gRPC."""
    rotel = Rotel(tmp_path, printed="metrics")
    try:
        rotel.start()
        with named(rotel.endpoint(protocol), protocol, OTEL_METRIC_EXPORT_INTERVAL="3600000"):
            otlp_metrics.MetricExport(Door(), os.environ, RESOURCE).close(timeout_s=5)
        told = rotel.output(holding="hw.power")
    finally:
        rotel.kill()
    assert "service.instance.id: Str(prod-eu/gpu-17)" in told
    for line in ("hw.energy", "hw.power", "4503599627.370495", "350.123456", "GPU-00000000"):
        assert line in told, told


def test_collector_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says it when it begins and not at each export; nothing is raised."""
    with named("http://127.0.0.1:1", "http/protobuf", OTEL_METRIC_EXPORT_INTERVAL="20", **IMPATIENT):
        export = otlp_metrics.MetricExport(Door(), os.environ, RESOURCE)
        for _ in range(500):
            if caplog.messages:
                break
            time.sleep(0.02)
        export.close(timeout_s=5)
    assert caplog.messages == [
        "metrics: the collector does not take them over http/protobuf; they are told again"
    ]


def test_unknown_protocol_is_named() -> None:
    """A setting that cannot work is named with what is allowed."""
    with pytest.raises(SetupError, match="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is 'carrier-pigeon'"):
        otlp_metrics.MetricExport(Door(), {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "carrier-pigeon"}, {})
