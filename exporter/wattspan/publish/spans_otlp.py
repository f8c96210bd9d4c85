"""Whether and where spans are exported, told by OpenTelemetry's own environment, and by nothing of ours.

Nothing of OpenTelemetry is imported before a collector is named: it costs 15 MiB, with gRPC 31 MiB.
Endpoint, headers, certificates, compression and timeout are read by the SDK's exporters themselves.
Not read: OTEL_TRACES_SAMPLER, since every run counts, OTEL_BSP_*, since the outbox is the queue,
and OTEL_CONFIG_FILE.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from wattspan.errors import SetupError
from wattspan.publish.spans import Door

PROTOCOLS: Final = ("http/protobuf", "grpc")
"""Allowed for OTEL_EXPORTER_OTLP_PROTOCOL; the first is the default, as in OpenTelemetry."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_DEFAULT_ENDPOINTS: Final = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether spans are to be exported; if not, none should be put into the outbox.

    They are where an endpoint is named, or OTEL_TRACES_EXPORTER says ``otlp``;
    not where that says otherwise, or OTEL_SDK_DISABLED is true.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    if exporters:
        return "otlp" in exporters
    return bool(_first(environ, _ENDPOINTS))


def protocol(environ: Mapping[str, str], signal: str = "TRACES_") -> str:
    """How a signal travels; its own variable goes first.

    Raises:
        SetupError: it is set to something else.
    """
    names = (f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    chosen = _first(environ, names) or PROTOCOLS[0]
    if chosen not in PROTOCOLS:
        name = next(name for name in names if environ.get(name))
        raise SetupError(f"{name} is {chosen!r}, allowed is {' or '.join(PROTOCOLS)}")
    return chosen


def check_files(environ: Mapping[str, str], signal: str = "TRACES_") -> None:
    """The exporters would notice a missing certificate at each request, or go on without it.

    Raises:
        SetupError: a file cannot be read; the variable is named.
    """
    for kind in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        for name in (f"OTEL_EXPORTER_OTLP_{kind}", f"OTEL_EXPORTER_OTLP_{signal}{kind}"):
            if not environ.get(name):
                continue
            try:
                Path(environ[name]).open("rb").close()
            except OSError as error:
                raise SetupError(
                    f"{name} is {environ[name]!r}, which cannot be read: {error.strerror}"
                ) from error


def missing_package(what: str, chosen: str, error: ImportError) -> SetupError:
    """The error that names the extra which brings the package."""
    extra = "grpc" if chosen == "grpc" else "daemon"
    return SetupError(f"{what} over {chosen} need the package {error.name}: pip install 'wattspan[{extra}]'")


def resource_of(
    node: str, cluster: str, version: str, *, region: str = "", kubernetes: bool = False
) -> dict[str, str]:
    """What the spans are about: this node. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.

    Args:
        node, cluster: names; the cluster's may be empty.
        version: of Wattspan.
        region: of the cloud; empty where there is none.
        kubernetes: the node is one of Kubernetes, under the same name.
    """
    attributes = {
        "service.name": "wattspan",
        "service.version": version,
        # Of the node and not of the process: spans of one run are sent before and after a restart.
        "service.instance.id": f"{cluster}/{node}" if cluster else node,
        "host.name": node,
        "k8s.node.name": node if kubernetes else "",
        "k8s.cluster.name": cluster if kubernetes else "",
        "cloud.region": region,
    }
    return {name: value for name, value in attributes.items() if value}


def door(environ: Mapping[str, str], resource: Mapping[str, str]) -> Door:
    """Open the way to the collector; nothing is sent yet.

    Args:
        environ: of this process, which the SDK reads too.
        resource: what the spans are about; see `resource_of`.

    Raises:
        SetupError: a setting that cannot work, or a package that is missing.
    """
    chosen = protocol(environ)
    endpoint = _first(environ, _ENDPOINTS) or _DEFAULT_ENDPOINTS[chosen]
    if chosen == "grpc" and "@" in endpoint:
        raise SetupError(
            "the endpoint in OTEL_EXPORTER_OTLP_*ENDPOINT holds a user, which gRPC does not know: "
            "give credentials in OTEL_EXPORTER_OTLP_HEADERS"
        )
    check_files(environ)
    place = _place(endpoint)
    try:
        if chosen == "grpc":
            from wattspan.publish.spans_grpc import GrpcDoor

            return GrpcDoor(place, resource)
        from wattspan.publish.spans_http import HttpDoor

        return HttpDoor(place, resource)
    except ImportError as error:
        raise missing_package("spans", chosen, error) from error
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise SetupError(f"OTEL_EXPORTER_OTLP_*: the exporter cannot be set up: {error}") from error


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first that is set; an empty value counts as unset (specification, sdk-environment-variables)."""
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")


def _place(endpoint: str) -> str:
    """An endpoint without what may be secret in it: user, password and query."""
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme else host
