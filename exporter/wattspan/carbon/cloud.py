"""Which cloud this machine stands in, and which region: by its metadata service, asked only on machines of
that cloud.

What the firmware says of the machine (DMI, in sysfs) settles whose it is; elsewhere nobody is asked.
The services answer on a link-local address without a key. A proxy is never used: its answer would be about
the proxy.
"""

import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from wattspan.carbon.regions import Region, find_region, near_it

TIMEOUT_S: Final = 1.0
"""For each question; the services answer within milliseconds.

From a container on AWS they may not answer at all, where the machine allows tokens one hop only.
"""

_MAX_BYTES: Final = 512

LINK_LOCAL: Final = "http://169.254.169.254"
"""Where all three are; Google's name for it, metadata.google.internal, would need DNS."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """One provider.

    Attributes:
        provider: as in the table of regions.
        name: for people.
        evidence: file of DMI and the pattern that its text has on machines of this cloud; one is enough.
        ask: asks the metadata service at a base URL for the region, as the service writes it.
    """

    provider: str
    name: str
    evidence: tuple[tuple[str, str], ...]
    ask: Callable[[str], str]


def _aws(base: str) -> str:
    """IMDSv2: a token first, which a forged request of some web application could not get.

    Amazon EC2 User Guide, "Use the Instance Metadata Service".
    """
    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    _, token = _request("PUT", base, "/latest/api/token", wanted)
    _, region = _request(
        "GET", base, "/latest/meta-data/placement/region", {"X-aws-ec2-metadata-token": token}
    )
    return region


def _gcp(base: str) -> str:
    """``projects/123/zones/europe-west9-b``; the region is the zone without its letter.

    Google Cloud, "View and query VM metadata": the answer repeats the header, and anybody else's does not.
    """
    headers, text = _request("GET", base, "/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"})
    if headers.get("metadata-flavor") != "Google":
        raise ValueError("not Google's metadata service")
    return text.rpartition("/")[2].rpartition("-")[0]


def _azure(base: str) -> str:
    """``francecentral``. Azure Instance Metadata Service; the version is one of those that it promises to
    keep.
    """
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    _, region = _request("GET", base, path, {"Metadata": "true"})
    return region


CLOUDS: Final = (
    Cloud(
        "aws",
        "AWS",
        (
            # Nitro has it in sys_vendor, bare metal in the chassis; machines of the Xen kind in the BIOS.
            ("sys_vendor", r"Amazon EC2"),
            ("board_vendor", r"Amazon EC2"),
            ("chassis_asset_tag", r"Amazon EC2"),
            ("bios_vendor", r"Amazon EC2"),
        ),
        _aws,
    ),
    # Also on bare metal; a Chromebook's sys_vendor is Google as well.
    Cloud("gcp", "Google Cloud", (("product_name", r"Google Compute Engine"),), _gcp),
    # Of every Azure machine; sys_vendor is Microsoft's on any Hyper-V.
    Cloud("azure", "Azure", (("chassis_asset_tag", r"7783-7084-3265-9085-8269-3286-77"),), _azure),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What came of asking.

    Attributes:
        region: where this machine is; None where that could not be found out.
        how: in words: who said so, or why nobody did.
        unheard: it named a region, and the table has none of that name.
    """

    region: Region | None
    how: str
    unheard: bool = False


def cloud_of(sysfs: Path) -> Cloud | None:
    """Whose machine this is by its firmware; None for everybody else's."""
    folder = sysfs / "class" / "dmi" / "id"
    for cloud in CLOUDS:
        for file, pattern in cloud.evidence:
            try:
                text = (folder / file).read_bytes()[:256].decode("ascii", "replace").strip()
            except OSError:
                continue
            if re.fullmatch(pattern, text):
                return cloud
    return None


def ask(sysfs: Path, bases: Mapping[str, str] | None = None) -> Told | None:
    """What the metadata service says of this machine. Blocks for `TIMEOUT_S` per question at most.

    None where this is no machine of a cloud that is known, and nobody was asked.

    Args:
        sysfs: where sysfs is mounted.
        bases: URL of each provider's service, by provider; the usual address by default.
    """
    cloud = cloud_of(sysfs)
    if cloud is None:
        return None
    service = f"the metadata service of {cloud.name}"
    try:
        said = cloud.ask((bases or {}).get(cloud.provider, LINK_LOCAL))
    except OSError:
        return Told(None, f"{service} did not answer")
    except (ValueError, http.client.HTTPException) as error:
        return Told(None, f"{service} gave no proper answer: {str(error)[:80] or type(error).__name__}")
    region = find_region(said, cloud.provider)
    if region is None:
        near = near_it(said[:40], cloud.provider)
        return Told(None, f"{service} names no region that is known: {said[:40]!r}{near}", unheard=True)
    return Told(region, f"{service} says")


def _request(method: str, base: str, path: str, headers: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The headers of an answer by lower-case name, and its text.

    Raises:
        OSError, http.client.HTTPException: there is none.
        ValueError: it is none of such a service.
    """
    url = urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, headers=dict(headers))
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                raise ValueError(f"HTTP {response.status} came")
            text = response.read(_MAX_BYTES).decode("ascii", "replace").strip()
            if not re.fullmatch(r"[\x21-\x7e]+", text):
                raise ValueError("no single word came")
            return {name.lower(): value for name, value in response.getheaders()}, text
    finally:
        connection.close()
