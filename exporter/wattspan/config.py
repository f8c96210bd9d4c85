# ruff: noqa: RUF009 - `setting` makes a fresh dataclasses.field at each call; nothing is shared by accident
"""config: every setting once, as the fields of one frozen `Config`.

A field carries its key, how its text is read, its default and its help.
Flag, environment name, YAML path, the checks and the reference in the README are all made from that:
``grid.pue`` is ``--grid.pue``, ``WATTSPAN_GRID_PUE`` and ``grid: {pue: ...}``.
Nothing here looks at arguments, the environment or files; `wattspan.cli.settings` does and builds the Config.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar, get_args

from wattspan.errors import SetupError
from wattspan.units import NS_PER_S

T = TypeVar("T")

SourceMode = Literal["auto", "on", "off"]
Signal = Literal["average", "marginal"]
Basis = Literal["lifecycle", "direct"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]

ENVIRONMENT_PREFIX: Final = "WATTSPAN_"

_NS_PER_UNIT: Final = {
    "ms": NS_PER_S // 1000,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How the text of a setting becomes its value. Flags, environment and YAML all arrive as text.

    Attributes:
        placeholder: one word for the value in ``--help``.
        allowed: what may be written, for people; it completes "allowed: ...".
        parse: text to value; raises ValueError for anything that is not allowed.
        show: value to the text that `parse` takes.
    """

    placeholder: str
    allowed: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str


def choice(*words: str) -> Kind[str]:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind("|".join(words), " | ".join(words), parse)


def number(low: float, high: float, of: str) -> Kind[float]:
    """A decimal number in a closed range; `of` says what is counted."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # false for NaN too
            raise ValueError(text)
        return value

    return Kind("NUMBER", f"a number from {low:g} to {high:g}, {of}", parse, lambda value: f"{value:g}")


def whole(low: int, high: int) -> Kind[int]:
    """A whole number in a closed range."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind("NUMBER", f"a whole number from {low} to {high}", parse)


def duration(low: str, high: str) -> Kind[int]:
    """Nanoseconds, written as a whole number and one unit, in a closed range."""
    low_ns, high_ns = nanoseconds(low), nanoseconds(high)

    def parse(text: str) -> int:
        value_ns = nanoseconds(text)
        if not low_ns <= value_ns <= high_ns:
            raise ValueError(text)
        return value_ns

    allowed = f"a duration from {low} to {high}, such as 500ms, 90s, 15m, 8h or 7d"
    return Kind("DURATION", allowed, parse, duration_text)


def nanoseconds(text: str) -> int:
    """Nanoseconds in ``500ms``, ``90s``, ``15m``, ``8h`` or ``7d``.

    Raises:
        ValueError: anything else, a bare number included.
    """
    # [0-9] and a bound on the digits: \d takes other scripts' digits, and int() refuses very long ones.
    match = re.fullmatch(r"([0-9]{1,12})(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _NS_PER_UNIT[match[2]]


def duration_text(value_ns: int) -> str:
    """The shortest text that `nanoseconds` reads back as this value; whole milliseconds only."""
    for unit, unit_ns in reversed(_NS_PER_UNIT.items()):
        if value_ns % unit_ns == 0 and value_ns:
            return f"{value_ns // unit_ns}{unit}"
    return "0s"


def words(*allowed: str) -> Kind[tuple[str, ...]]:
    """Some of a few words, in the order that is wanted, each once."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
        if len(set(found)) != len(found) or not set(found) <= set(allowed):
            raise ValueError(text)
        return found

    return Kind("NAME", f"some of {', '.join(allowed)}; several are separated by commas", parse, ",".join)


def _url(text: str) -> str:
    """An http or https URL without user, password, query and fragment; empty for none."""
    if not text:
        return ""
    match = re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+(/[^?#\s@]*)?", text)
    if match is None:
        raise ValueError(text)
    return text.rstrip("/")


def _printable(text: str) -> str:
    """The text itself; it ends up in labels, log lines and paths, so control characters are refused."""
    if not text.isprintable():
        raise ValueError(text)
    return text


def _address(text: str) -> str:
    """A listen address as it stands; only its form is checked, the server resolves and binds it."""
    match = re.fullmatch(r"(\[[0-9A-Za-z:.%_-]+\]|[0-9A-Za-z._-]*):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65_535:
        raise ValueError(text)
    return text


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(_address(part.strip()) for part in text.split(","))


TEXT: Final = Kind("TEXT", "text without control characters", _printable)
URL: Final = Kind("URL", "an http or https URL, without user, password and query", _url)
PATH: Final = Kind("PATH", "a path", lambda text: Path(_printable(text)))
ADDRESSES: Final = Kind(
    "ADDRESS", "host:port, :port or [IPv6]:port; several are separated by commas", _addresses, ",".join
)
GRID_PROVIDERS: Final = (
    "carbonintensity",
    "energycharts",
    "eco2mix",
    "electricitymaps",
    "watttime",
    "entsoe",
    "eia",
    "carbonaware",
    "prometheus",
    "peer",
    "file",
)
"""Live providers of grid intensity; a test holds them equal to the modules."""

SOURCE_MODE: Final = choice(*get_args(SourceMode))


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting besides its value.

    Attributes:
        key: dotted; the flag without its dashes, and the path in the YAML file.
        attribute: the field of `Config` that holds it.
        kind: how its text is read.
        help: one or two sentences for ``--help`` and the README.
        environment: its ``WATTSPAN_*`` variable.
        default_text: the default as people read it; empty where it means "not set".
        repeatable: the flag may be given several times, and the YAML value may be a list.
    """

    key: str
    attribute: str
    kind: Kind[Any]
    help: str
    environment: str
    default_text: str
    repeatable: bool = False


def setting(
    key: str,
    kind: Kind[Any],
    help: str,  # noqa: A002 - argparse's word for it
    default: object = None,
    *,
    default_factory: Callable[[], object] | None = None,
    default_text: str | None = None,
    environment: str | None = None,
    repeatable: bool = False,
) -> Any:
    """A field of `Config`. Returns Any, as `dataclasses.field` does, so that the annotation says the type."""
    if default_text is None:
        default_text = "" if default is None else kind.show(default)
    metadata = {
        "key": key,
        "kind": kind,
        "help": help,
        "environment": environment or environment_name(key),
        "default_text": default_text,
        "repeatable": repeatable,
    }
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def environment_name(key: str) -> str:
    """The variable of a key: ``web.listen-address`` is ``WATTSPAN_WEB_LISTEN_ADDRESS``."""
    return ENVIRONMENT_PREFIX + re.sub(r"[.-]", "_", key).upper()


def default_state_dir() -> Path:
    """``/var/lib/wattspan`` for root, else the XDG state folder of the user.

    Raises:
        SetupError: the user has no home folder, as with a bare uid in a container.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/wattspan")
    # The XDG base directory specification (0.8) says that a relative path is to be ignored.
    stated = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(stated):
        return Path(stated) / "wattspan"
    try:
        return Path.home() / ".local/state/wattspan"
    except RuntimeError as error:
        raise SetupError("state.dir: not set, and this user has no home folder; set --state.dir") from error


def default_socket() -> Path | None:
    """``/run/wattspan/wattspan.sock`` for root, else in the user's runtime folder; None without one."""
    if os.geteuid() == 0:
        return Path("/run/wattspan/wattspan.sock")
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(folder) / "wattspan.sock" if os.path.isabs(folder) else None


def default_node_name() -> str:
    """The host name, as the kernel has it."""
    return socket.gethostname() or "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, checked. Made once at start; nothing changes it afterwards.

    Each field's meaning is its `help`. None means "not set"; ``*_ns`` is nanoseconds.
    """

    config_file: Path | None = setting(
        "config.file", PATH, "YAML file with settings; flags and environment go before it."
    )
    web_listen_address: tuple[str, ...] = setting(
        "web.listen-address",
        ADDRESSES,
        "Address to serve metrics and the API on. May be given several times.",
        (":9746",),
        repeatable=True,
    )
    web_config_file: Path | None = setting(
        "web.config.file",
        PATH,
        "Web configuration of the Prometheus exporter toolkit: TLS, client certificates, basic auth.",
    )
    state_dir: Path = setting(
        "state.dir",
        PATH,
        "Folder of the journal. One daemon at a time.",
        default_factory=default_state_dir,
        default_text="/var/lib/wattspan as root, else $XDG_STATE_HOME/wattspan",
    )
    sample_interval_ns: int = setting(
        "sample.interval", duration("100ms", "60s"), "Time between two looks at the hardware.", NS_PER_S
    )
    nvml_library: Path | None = setting(
        "nvml.library", PATH, "NVIDIA's libnvidia-ml.so.1, where the loader does not find it."
    )
    path_sysfs: Path = setting(
        "path.sysfs", PATH, "Where sysfs is mounted; in a container, the host's.", Path("/sys")
    )
    path_procfs: Path = setting(
        "path.procfs", PATH, "Where procfs is mounted; in a container, the host's.", Path("/proc")
    )
    source_nvidia: SourceMode = setting(
        "source.nvidia",
        SOURCE_MODE,
        "NVIDIA GPUs through NVML. With `on` its absence is a failure that health and metrics show.",
        "auto",
    )
    source_rapl: SourceMode = setting(
        "source.rapl", SOURCE_MODE, "CPU and DRAM energy through powercap; needs root to read.", "auto"
    )
    source_hwmon: SourceMode = setting(
        "source.hwmon", SOURCE_MODE, "Grace CPU rail and whole-box power meters through hwmon.", "auto"
    )
    source_ipmi: SourceMode = setting(
        "source.ipmi", SOURCE_MODE, "Whole-box power from the BMC through /dev/ipmi0; needs root.", "auto"
    )
    source_amd: SourceMode = setting(
        "source.amd", SOURCE_MODE, "AMD GPUs through amdsmi, else through sysfs.", "auto"
    )
    source_intel: SourceMode = setting(
        "source.intel", SOURCE_MODE, "Intel GPUs through hwmon energy counters.", "auto"
    )
    source_estimate: SourceMode = setting(
        "source.estimate",
        SOURCE_MODE,
        "CPU load times rated power. With `auto` only where no CPU source measures; never in measured sums.",
        "auto",
    )
    cluster_name: str = setting(
        "cluster.name",
        TEXT,
        "Name of the cluster that this node belongs to.",
        "",
        environment="WATTSPAN_CLUSTER",
    )
    node_name: str = setting(
        "node.name",
        TEXT,
        "Name of this node.",
        default_factory=default_node_name,
        default_text="the host name",
    )
    grid_zone: str | None = setting(
        "grid.zone",
        TEXT,
        "Country or grid zone that feeds this node, such as `FR`; finer than grid.region, if both are set.",
    )
    grid_region: str | None = setting(
        "grid.region", TEXT, "Cloud region that this node stands in, such as `europe-west9`."
    )
    grid_intensity: float | None = setting(
        "grid.intensity",
        # The floor catches kilograms given for grams: no grid is that clean over its life cycle.
        number(1, 2000, "grams of CO2e per kWh"),
        "The grid's intensity, where you know it better than the table. Goes before zone and region.",
    )
    grid_pue: float | None = setting(
        "grid.pue",
        number(1, 5, "facility energy over IT energy"),
        "Power usage effectiveness that grams are multiplied by, once.",
        default_text="not configured, which counts as 1.0",
    )
    grid_providers: tuple[str, ...] = setting(
        "grid.providers",
        words(*GRID_PROVIDERS),
        "Live sources of the grid's intensity, first choice first; see the README for what each needs."
        " Without any, figures are yearly.",
        (),
        default_text="none",
        repeatable=True,
    )
    grid_signal: Signal | None = setting(
        "grid.signal",
        choice("average", "marginal"),
        "What intensities mean, for providers that have both.",
        default_text="what the first provider means",
    )
    grid_basis: Basis | None = setting(
        "grid.basis",
        choice("lifecycle", "direct"),
        "What intensities count, for providers that have both.",
        default_text="what the first provider means",
    )
    grid_cloud_metadata: str = setting(
        "grid.cloud-metadata",
        choice("auto", "off"),
        "Ask the metadata service of AWS, Google Cloud or Azure for the region; only on machines of theirs.",
        "auto",
    )
    grid_market_intensity: float | None = setting(
        "grid.market-intensity",
        number(0, 2000, "grams of CO2e per kWh"),
        "Intensity of your electricity contract, for market-based figures beside the location-based ones.",
    )
    grid_wue: float | None = setting(
        "grid.wue",
        number(0, 100, "litres per kWh of IT energy"),
        "Water usage effectiveness of the site (ISO/IEC 30134-9).",
    )
    grid_carbonintensity_url: str = setting(
        "grid.carbonintensity.url",
        URL,
        "UK Carbon Intensity API: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_carbonintensity_zone: str = setting(
        "grid.carbonintensity.zone",
        TEXT,
        "UK Carbon Intensity API: id of a region, 1 to 17, instead of the whole of Great Britain.",
        "",
    )
    grid_energycharts_url: str = setting(
        "grid.energycharts.url",
        URL,
        "Energy-Charts: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_energycharts_zone: str = setting(
        "grid.energycharts.zone",
        TEXT,
        "Energy-Charts: its code of the country, where the grid zone does not say.",
        "",
    )
    grid_eco2mix_url: str = setting(
        "grid.eco2mix.url",
        URL,
        "RTE eCO2mix: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_electricitymaps_url: str = setting(
        "grid.electricitymaps.url",
        URL,
        "Electricity Maps: Where it is, with the version of the API.",
        "",
        default_text="the service itself",
    )
    grid_electricitymaps_zone: str = setting(
        "grid.electricitymaps.zone", TEXT, "Electricity Maps: its zone, where it is not the grid zone.", ""
    )
    grid_electricitymaps_token_file: Path | None = setting(
        "grid.electricitymaps.token-file",
        PATH,
        "Electricity Maps: file with the token; or set WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN.",
    )
    grid_watttime_url: str = setting(
        "grid.watttime.url",
        URL,
        "WattTime: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_watttime_zone: str = setting(
        "grid.watttime.zone", TEXT, "WattTime: its region, such as `CAISO_NORTH`.", ""
    )
    grid_watttime_token_file: Path | None = setting(
        "grid.watttime.token-file",
        PATH,
        "WattTime: file with `user:password`; or set WATTSPAN_GRID_WATTTIME_TOKEN.",
    )
    grid_entsoe_url: str = setting(
        "grid.entsoe.url",
        URL,
        "ENTSO-E: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_entsoe_zone: str = setting(
        "grid.entsoe.zone",
        TEXT,
        "ENTSO-E: EIC code of the bidding zone, where the grid zone does not say.",
        "",
    )
    grid_entsoe_token_file: Path | None = setting(
        "grid.entsoe.token-file",
        PATH,
        "ENTSO-E: file with the security token; or set WATTSPAN_GRID_ENTSOE_TOKEN.",
    )
    grid_eia_url: str = setting(
        "grid.eia.url",
        URL,
        "US EIA: Where it is, when not at its usual place.",
        "",
        default_text="the service itself",
    )
    grid_eia_zone: str = setting(
        "grid.eia.zone",
        TEXT,
        "US EIA: the balancing authority, such as `CISO`, where the grid zone does not say.",
        "",
    )
    grid_eia_token_file: Path | None = setting(
        "grid.eia.token-file", PATH, "US EIA: file with the API key; or set WATTSPAN_GRID_EIA_TOKEN."
    )
    grid_carbonaware_url: str = setting("grid.carbonaware.url", URL, "URL of a Carbon Aware SDK web API.", "")
    grid_carbonaware_zone: str = setting(
        "grid.carbonaware.zone", TEXT, "Carbon Aware SDK: its location, where it is not the grid zone.", ""
    )
    grid_prometheus_url: str = setting(
        "grid.prometheus.url", URL, "URL of a Prometheus that holds the intensity.", ""
    )
    grid_prometheus_token_file: Path | None = setting(
        "grid.prometheus.token-file",
        PATH,
        "Prometheus: file with a bearer token; or set WATTSPAN_GRID_PROMETHEUS_TOKEN.",
    )
    grid_prometheus_query: str = setting(
        "grid.prometheus.query", TEXT, "PromQL that gives one series in grams of CO2e per kWh.", ""
    )
    grid_peer_url: str = setting(
        "grid.peer.url", URL, "URL of another Wattspan, whose intensities and forecasts are taken over.", ""
    )
    grid_peer_token_file: Path | None = setting(
        "grid.peer.token-file",
        PATH,
        "Another Wattspan: file with `user:password`; or set WATTSPAN_GRID_PEER_TOKEN.",
    )
    grid_file_path: Path | None = setting(
        "grid.file.path", PATH, "JSON file with intensities; see the README for its members."
    )
    cost_price_per_kwh: float | None = setting(
        "cost.price-per-kwh",
        number(0, 1000, "units of cost.currency per kWh"),
        "Price of electricity at the facility's meter. Without it nothing has a cost.",
    )
    cost_currency: str = setting(
        "cost.currency", TEXT, "Currency of cost.price-per-kwh, such as `EUR`; a label, never converted.", ""
    )
    cost_schedule: str = setting(
        "cost.schedule",
        TEXT,
        "Price by time of use, such as `Mon-Fri 07:00-22:00 0.31; 0.19`: the first that holds counts.",
        "",
    )
    cost_time_zone: str = setting(
        "cost.time-zone", TEXT, "Time zone of cost.schedule, such as `Europe/Berlin`.", "UTC"
    )
    cost_provider: str = setting(
        "cost.provider",
        choice("off", "energycharts", "prometheus", "file"),
        "Where prices come from by the hour; see the README for what each needs."
        " cost.price-per-kwh or cost.schedule stands in where it says nothing.",
        "off",
    )
    cost_zone: str = setting(
        "cost.zone", TEXT, "Bidding zone of cost.provider energycharts, such as `DE-LU`.", ""
    )
    cost_url: str = setting("cost.url", URL, "Where cost.provider is, when not at its usual place.", "")
    cost_query: str = setting(
        "cost.query", TEXT, "PromQL of cost.provider prometheus: one series, per kWh.", ""
    )
    cost_path: Path | None = setting("cost.path", PATH, "JSON file of cost.provider file.")
    embodied_gpu_kg: float | None = setting(
        "embodied.gpu-kg",
        number(0, 100_000, "kilograms of CO2e"),
        "What making one GPU emitted, for those that the table lacks or where you know better.",
    )
    embodied_host_kg: float | None = setting(
        "embodied.host-kg",
        number(0, 1_000_000, "kilograms of CO2e"),
        "What making the server without its GPUs emitted; published figures differ by a factor of five.",
    )
    embodied_lifetime_years: float = setting(
        "embodied.lifetime-years", number(1, 20, "years"), "Expected life of the hardware.", 4.0
    )
    calibration_file: Path | None = setting(
        "calibration.file",
        PATH,
        "Your own calibration of GPUs against an external meter; see the README for its columns.",
    )
    runs: str = setting(
        "runs",
        choice("on", "off"),
        "Charge energy to training runs and pods. With `off` only devices are metered.",
        "on",
    )
    privacy_user_names: str = setting(
        "privacy.user-names",
        choice("on", "off"),
        "Keep the name of the user who began a run, in its record, report and span; never as a label."
        " Not of pods, whose users are their own.",
        "off",
    )
    socket: Path | None = setting(
        "socket",
        PATH,
        "Local socket that training processes report to; the peer process is checked.",
        default_factory=default_socket,
        default_text="/run/wattspan/wattspan.sock as root, else $XDG_RUNTIME_DIR/wattspan.sock",
    )
    api_token_file: Path | None = setting(
        "api.token-file", PATH, "Tokens that may write runs over TCP; see the README for its lines."
    )
    api_silence_ns: int = setting(
        "api.silence",
        duration("10m", "7d"),  # twice what a client of ours is silent at most
        "A run that only a token vouches for is lost when nothing has been heard of it for so long.",
        30 * 60 * NS_PER_S,
    )
    kubelet_dir: Path = setting(
        "kubelet.dir",
        PATH,
        "Folder of the kubelet's pod resources socket; watched where it exists.",
        Path("/var/lib/kubelet/pod-resources"),
    )
    kubernetes_pods: str = setting(
        "kubernetes.pods",
        choice("off", "kubelet", "api"),
        "Where pod metadata (labels, owners, phases) comes from; both need a service account token.",
        "off",
    )
    kubelet_address: str = setting(
        "kubelet.address", TEXT, "Where the kubelet serves pods (status.hostIP).", "127.0.0.1"
    )
    kubelet_ca_file: Path | None = setting(
        "kubelet.ca-file",
        PATH,
        "Who signed the kubelet's serving certificate.",
        default_text="the service account's ca.crt",
    )
    kubelet_verify: str = setting(
        "kubelet.verify",
        choice("on", "off"),
        "Check the kubelet's certificate. kubeadm's kubelets sign their own unless serverTLSBootstrap is on.",
        "on",
    )
    slurm_mapping_dir: Path | None = setting(
        "slurm.mapping-dir", PATH, "Folder that dcgm-exporter knows as --hpc-job-mapping-dir."
    )
    spans_window_ns: int = setting(
        "spans.window",
        duration("1m", "1d"),
        "Length of a run's window spans; doubled so that a node has at most 256 of a run.",
        900 * NS_PER_S,
    )
    metrics_series_budget: int = setting(
        "metrics.series-budget",
        whole(100, 1_000_000),
        "Most series in a scrape; beyond it the least important families are left out and counted.",
        3000,
    )
    profile: str = setting(
        "profile",
        TEXT,
        "What the deployment lets the daemon see, shown as wattspan_config_info; the Helm chart sets it.",
        "",
    )
    log_level: LogLevel = setting(
        "log.level", choice(*get_args(LogLevel)), "The least severe lines that are logged.", "info"
    )
    log_format: LogFormat = setting(
        "log.format", choice(*get_args(LogFormat)), "How a log line is written.", "logfmt"
    )

    @property
    def source_modes(self) -> Mapping[str, SourceMode]:
        """Mode by source name, in the order of the settings."""
        prefix = "source_"
        names = [entry.name for entry in fields(self) if entry.name.startswith(prefix)]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}


SETTINGS: Final[Mapping[str, Setting]] = {
    entry.metadata["key"]: Setting(attribute=entry.name, **entry.metadata) for entry in fields(Config)
}
"""Every setting by key, in the order of `Config`."""

HINTS: Final[Mapping[str, str]] = {
    "WATTSPAN_NODE_REGION": (
        "The node's label `topology.kubernetes.io/region`, put there by the downward API."
        " A hint that is used where no grid setting says more; a region that is not known is passed over."
    ),
    "WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN": "Secret of Electricity Maps: the token.",
    "WATTSPAN_GRID_WATTTIME_TOKEN": "Secret of WattTime: `user:password`.",
    "WATTSPAN_GRID_ENTSOE_TOKEN": "Secret of ENTSO-E: the security token.",
    "WATTSPAN_GRID_EIA_TOKEN": "Secret of US EIA: the API key.",
    "WATTSPAN_GRID_PROMETHEUS_TOKEN": "Secret of Prometheus: a bearer token.",
    "WATTSPAN_GRID_PEER_TOKEN": "Secret of Another Wattspan: `user:password`.",
    "WATTSPAN_URL": "Of clients: the daemon's URL, such as `http://10.0.0.7:9746`; goes before every socket.",
    "WATTSPAN_TOKEN_FILE": "Of clients: the file with the token to show at `WATTSPAN_URL`.",
    "WATTSPAN_RUN_ID": "Of clients: the run that the job is; `wattspan run` sets it for its command.",
    "WATTSPAN_RUN_ATTEMPT": "Of clients: which attempt of that run, from 0.",
    "WATTSPAN_DISABLED": "Of clients: with `1`, `track()` and callbacks do nothing at all.",
    "WATTSPAN_EPHEMERAL": "Of clients: with `off`, no daemon is started where there is none.",
}
"""Variables with our prefix that are no settings: they cannot be wrong, and have no flag."""
