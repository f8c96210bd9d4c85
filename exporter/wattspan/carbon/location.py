"""Where this node draws its power: from configuration, else the cloud's metadata, else a hint in the
environment, else unknown.

Never by IP address: behind a gateway, that prices a cluster as somebody else's country.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from wattspan.carbon.cloud import Told
from wattspan.carbon.countries import WORLD, Country, find_country, near_countries
from wattspan.carbon.regions import Region, find_region, near_it, near_regions
from wattspan.errors import SetupError

REGION_LABEL: Final = "topology.kubernetes.io/region"
"""A well-known label of nodes, which cloud providers set; asked for where pods are asked for, too."""

NODE_REGION: Final = "WATTSPAN_NODE_REGION"
"""The node's label topology.kubernetes.io/region, by a pod's downward API (KEP-4742, beta in 1.35).
A hint and no setting: on premises the label may hold any word."""

HINTS: Final = (
    (NODE_REGION, ""),
    ("AWS_REGION", "aws"),  # the AWS SDKs' setting; Lambda, ECS and the EKS pod identity webhook put it there
    ("AWS_DEFAULT_REGION", "aws"),  # the same for the AWS command line
    ("GOOGLE_CLOUD_REGION", "gcp"),  # set by hand; usual in Google's own samples
    ("CLOUDSDK_COMPUTE_REGION", "gcp"),  # gcloud's property compute/region
    ("REGION_NAME", "azure"),  # App Service and Functions; Microsoft's MSAL reads it for the same purpose
)
"""Variables that name a region, and whose region it is (empty: anybody's). The first known one counts."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the node draws its power.

    Attributes:
        zone: the finest grid zone that is known, such as ``FR`` or ``US-CAL-CISO``; ``WORLD`` when none is.
        how: how it was found, in one sentence for the log and `doctor`.
        region: of the cloud, as its provider writes it, such as ``eu-west-3``; empty where none is known.
        configured: somebody set it; False for what was found out, for a hint, and for ``WORLD`` by default.
        unheard: somebody named a region that the table lacks, and so it is ``WORLD``: worth a warning.
    """

    zone: str
    how: str
    configured: bool
    region: str = ""
    unheard: bool = False

    @property
    def known(self) -> bool:
        """Whether this is a place at all."""
        return self.zone != WORLD


def locate(
    zone: str | None,
    region: str | None,
    environment: Mapping[str, str],
    metadata: Callable[[], Told | None] | None = None,
    label: Callable[[], str] | None = None,
) -> Location:
    """Find the grid zone. Blocks only as `metadata` and `label` do, and asks nobody else.

    Args:
        zone: the setting ``grid.zone``; goes before `region`, which it refines. Empty is not set.
        region: the setting ``grid.region``. Empty is not set.
        environment: where hints are looked for; one that names no known region is passed over.
        metadata: asks the cloud, as `wattspan.carbon.cloud.ask` does; called where nothing is set. None for
            not at all.
        label: asks for the node's label `REGION_LABEL`, which goes before the other hints; called where
            nothing is set, no metadata is to be had and `NODE_REGION` is empty. It gives an empty text where
            it is not known. None for not at all.

    Raises:
        SetupError: a setting that is unknown, or two that contradict each other.
    """
    in_cloud = _configured_region(region) if region else None
    if zone:
        return _from_zone(zone, in_cloud, environment)
    if in_cloud:
        how = f"grid.region is {_place(in_cloud)}."
        return Location(in_cloud.zone, how, configured=True, region=in_cloud.name)
    told = metadata() if metadata else None
    if told and told.region:
        how = f"{told.how[:1].upper()}{told.how[1:]} {_place(told.region)}."
        return Location(told.region.zone, how, configured=False, region=told.region.name)
    known_label = environment.get(NODE_REGION, "").strip()
    found = _from_hints(environment, "" if known_label or label is None else label())
    if told is None:
        return found
    how = f"{found.how} {told.how[:1].upper()}{told.how[1:]}."
    return replace(found, how=how, unheard=found.unheard or (told.unheard and not found.known))


def _from_zone(zone: str, in_cloud: Region | None, environment: Mapping[str, str]) -> Location:
    country = _configured_country(zone)
    if in_cloud and country.zone != in_cloud.country:
        raise SetupError(
            f"grid.zone: {zone!r} is in {country.name}, but grid.region is {_place(in_cloud)};"
            " allowed: a zone of that country, or only one of the two settings"
        )
    code = zone.strip().upper()
    finest = code if code.startswith(f"{country.zone}-") else country.zone
    # Of the hints the node's own label alone is as sure as the zone, and it must agree with it.
    labelled = find_region(environment.get(NODE_REGION, ""))
    if in_cloud is None and labelled is not None and labelled.country == country.zone:
        in_cloud = labelled
    how = f"grid.zone is {finest} ({country.name})."
    return Location(finest, how, configured=True, region=in_cloud.name if in_cloud else "")


def _from_hints(environment: Mapping[str, str], label: str) -> Location:
    unknown = ""
    hints = [(variable, environment.get(variable, ""), provider) for variable, provider in HINTS]
    for named, hint, provider in [(f"The node's label {REGION_LABEL}", label, ""), *hints]:
        if not hint.strip():
            continue
        if region := find_region(hint, provider):
            how = f"{named} is {_place(region)}: a hint; set grid.zone or grid.region to be sure."
            return Location(region.zone, how, configured=False, region=region.name)
        # Not quoted whole: it is somebody else's word and may be anything.
        shown = hint.strip()[:40]
        unknown = unknown or f" ({named} names no region that is known: {shown!r}{near_it(shown, provider)})"
    how = f"No location is configured or hinted at{unknown}: the world's mean is used; set grid.zone."
    return Location(WORLD, how, configured=False, unheard=bool(unknown))


def _configured_country(zone: str) -> Country:
    if find_region(zone):
        raise SetupError(
            f"grid.zone: {zone!r} is a cloud region; allowed: a country or grid zone; use grid.region"
        )
    if country := find_country(zone):
        return country
    raise SetupError(
        f"grid.zone: {zone!r} is unknown; allowed: a country (FR, FRA), a grid zone (US-CAL-CISO) or {WORLD}"
        + _did_you_mean(near_countries(zone) + [f"grid.region {name}" for name in near_regions(zone)])
    )


def _configured_region(name: str) -> Region:
    if region := find_region(name):
        return region
    raise SetupError(
        f"grid.region: {name!r} is unknown; allowed: a region of AWS, Google Cloud or Azure,"
        " such as eu-west-3 or gcp:europe-west9; elsewhere set grid.zone" + _did_you_mean(near_regions(name))
    )


def _place(region: Region) -> str:
    return f"{region.provider}:{region.name} in {region.zone}"


def _did_you_mean(near: list[str]) -> str:
    return f"; did you mean {', '.join(near)}?" if near else ""
