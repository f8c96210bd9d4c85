"""Which cloud this is: firmware says whose machine it is, the metadata service where it stands."""

import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.grid_service import Answer, GridService, Request
from wattspan.carbon import cloud
from wattspan.carbon.cloud import CLOUDS, cloud_of
from wattspan.carbon_service import CarbonService
from wattspan.config import Config

AWS = {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}
AWS_XEN = {"sys_vendor": "Xen", "product_name": "HVM domU", "bios_vendor": "Amazon EC2"}
AWS_METAL = {"sys_vendor": "Quanta", "chassis_asset_tag": "Amazon EC2"}
GCP = {"sys_vendor": "Google", "product_name": "Google Compute Engine"}
AZURE = {
    "sys_vendor": "Microsoft Corporation",
    "product_name": "Virtual Machine",
    "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
}
HYPER_V = {
    "sys_vendor": "Microsoft Corporation",
    "product_name": "Virtual Machine",
    "chassis_asset_tag": "1234",
}
CHROMEBOOK = {"sys_vendor": "Google", "product_name": "Eve"}
DGX = {
    "sys_vendor": "NVIDIA",
    "product_name": "DGXH100",
    "bios_vendor": "American Megatrends",
    "chassis_asset_tag": "",
}

TOKEN = "a-token=="


def machine(folder: Path, dmi: Mapping[str, str]) -> Path:
    """A sysfs whose firmware says this."""
    place = folder / "class" / "dmi" / "id"
    place.mkdir(parents=True)
    for name, text in dmi.items():
        (place / name).write_text(f"{text}\n")
    return folder


def aws(region: str) -> dict[str, object]:
    """What IMDSv2 does, by path: no answer without a token."""

    def give_token(request: Request) -> Answer:
        ok = (
            request.method == "PUT"
            and request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdecimal()
        )
        return Answer(body=TOKEN.encode()) if ok else Answer(400)

    def give_region(request: Request) -> Answer:
        ok = request.method == "GET" and request.headers.get("x-aws-ec2-metadata-token") == TOKEN
        return Answer(body=region.encode()) if ok else Answer(401)

    return {"/latest/api/token": give_token, "/latest/meta-data/placement/region": give_region}


def gcp(zone: str) -> dict[str, object]:
    """What Google's service does: no answer without its header, which comes back."""

    def give(request: Request) -> Answer:
        if request.headers.get("metadata-flavor") != "Google":
            return Answer(403)
        return Answer(body=f"projects/123/zones/{zone}".encode(), headers={"Metadata-Flavor": "Google"})

    return {"/computeMetadata/v1/instance/zone": give}


def azure(location: str) -> dict[str, object]:
    """What Azure's service does: a header, a version, and no proxy in between."""

    def give(request: Request) -> Answer:
        ok = request.headers.get("metadata") == "true" and request.query == {
            "api-version": "2021-02-01",
            "format": "text",
        }
        return (
            Answer(body=location.encode()) if ok and "x-forwarded-for" not in request.headers else Answer(400)
        )

    return {"/metadata/instance/compute/location": give}


def serve(service: GridService, paths: Mapping[str, object]) -> dict[str, str]:
    """Have the service do that; every provider's base URL is its own."""
    for path, saying in paths.items():
        service.says(path, saying)  # type: ignore[arg-type]
    return dict.fromkeys((each.provider for each in CLOUDS), service.url)


@pytest.mark.parametrize(
    ("dmi", "provider"),
    [
        (AWS, "aws"),
        (AWS_XEN, "aws"),
        (AWS_METAL, "aws"),
        (GCP, "gcp"),
        (AZURE, "azure"),
        (HYPER_V, None),
        (CHROMEBOOK, None),
        (DGX, None),
        ({}, None),
        ({"sys_vendor": "Not Amazon EC2 at all"}, None),
    ],
)
def test_the_firmware_says_whose_machine_it_is(
    tmp_path: Path, dmi: dict[str, str], provider: str | None
) -> None:
    """A machine of a cloud is told by what only that cloud writes, and every other one is nobody's."""
    found = cloud_of(machine(tmp_path, dmi))
    assert (found.provider if found else None) == provider


def test_a_machine_without_dmi_is_nobody_s(tmp_path: Path) -> None:
    """As on ARM boards and in containers that do not see it."""
    assert cloud_of(tmp_path) is None


@pytest.mark.parametrize(
    ("dmi", "answers", "region", "zone"),
    [
        (AWS, aws("eu-west-3"), "eu-west-3", "FR"),
        (AWS_METAL, aws("us-west-1"), "us-west-1", "US-CAL-CISO"),
        (GCP, gcp("europe-west9-b"), "europe-west9", "FR"),
        (AZURE, azure("francecentral"), "francecentral", "FR"),
    ],
)
def test_the_metadata_service_says_where(
    tmp_path: Path,
    service: GridService,
    dmi: dict[str, str],
    answers: dict[str, object],
    region: str,
    zone: str,
) -> None:
    """Each is asked as it wants to be asked, with its header and AWS with its token."""
    told = cloud.ask(machine(tmp_path, dmi), serve(service, answers))
    assert told is not None
    assert told.region is not None
    assert (told.region.name, told.region.zone) == (region, zone)


def test_nobody_is_asked_elsewhere(tmp_path: Path, service: GridService) -> None:
    """A machine that is no cloud's sends nothing, though something would answer at the address."""
    bases = serve(service, {**aws("eu-west-3"), **gcp("europe-west9-b"), **azure("francecentral")})
    for number, dmi in enumerate((HYPER_V, CHROMEBOOK, DGX, {})):
        assert cloud.ask(machine(tmp_path / str(number), dmi), bases) is None
    assert service.requests == []


def test_no_proxy_is_used(tmp_path: Path, service: GridService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the site stands elsewhere, and its cloud would say where it is itself."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    told = cloud.ask(machine(tmp_path, GCP), serve(service, gcp("europe-west9-b")))
    assert told is not None
    assert told.region is not None
    assert [request.target for request in service.requests] == ["/computeMetadata/v1/instance/zone"]


@pytest.mark.parametrize(
    ("dmi", "path", "answer", "said"),
    [
        (AWS, "/latest/api/token", Answer(403), "gave no proper answer: HTTP 403 came"),
        (AWS, "/latest/api/token", Answer(body=b"a token\r\nX: y"), "no single word came"),
        (AWS, "/latest/meta-data/*", Answer(500), "HTTP 500 came"),
        (AWS, "/latest/meta-data/*", Answer(302, headers={"Location": "/login"}), "HTTP 302 came"),
        (AWS, "/latest/meta-data/*", Answer(body=b""), "no single word came"),
        (AWS, "/latest/meta-data/*", Answer(body=b"xx-nowhere-9"), "known: 'xx-nowhere-9'"),
        (AWS, "/latest/meta-data/*", Answer(body=b"eu-west-9"), "known: 'eu-west-9'; near it: aws:eu-west-"),
        (AWS, "/latest/meta-data/*", Answer(body=b"<html><b>Hi</b></html>"), "names no region that is known"),
        (AWS, "/latest/meta-data/*", Answer(body=b"x" * 2_000_000), "names no region that is known"),
        (AWS, "/latest/meta-data/*", Answer(body=b"europe-west9"), "names no region that is known"),
        (AWS, "/latest/meta-data/*", Answer(raw=b"\x15\x03\x01\x00\x02"), "gave no proper answer"),
        (GCP, "/computeMetadata/*", Answer(body=b"projects/1/zones/europe-west9-b"), "not Google's"),
        (GCP, "/computeMetadata/*", Answer(404), "HTTP 404 came"),
        (AZURE, "/metadata/*", Answer(body=b"\xff\xfe"), "no single word came"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none(
    tmp_path: Path, service: GridService, dmi: dict[str, str], path: str, answer: Answer, said: str
) -> None:
    """Nothing of it is believed, nothing is raised, and what happened is said."""
    bases = serve(
        service, {**aws("eu-west-3"), **gcp("europe-west9-b"), **azure("francecentral"), path: answer}
    )
    told = cloud.ask(machine(tmp_path, dmi), bases)
    assert told is not None
    assert told.region is None
    assert said in told.how
    assert told.unheard == ("names no region" in told.how or "known:" in told.how)
    assert "gcp:" not in told.how, "the regions of that cloud alone are near"


def test_a_service_that_is_silent_is_left_after_its_time(
    tmp_path: Path, service: GridService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a container on AWS whose answers end at the machine; it is not asked twice."""
    monkeypatch.setattr(cloud, "TIMEOUT_S", 0.05)
    bases = serve(service, {"/latest/api/token": Answer(body=TOKEN.encode(), delay_s=60)})
    told = cloud.ask(machine(tmp_path, AWS), bases)
    assert told == cloud.Told(None, "the metadata service of AWS did not answer")
    assert service.first.path == "/latest/api/token"
    assert len(service.requests) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    """A port without a service is a service that did not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
    told = cloud.ask(machine(tmp_path, AZURE), {"azure": base})
    assert told == cloud.Told(None, "the metadata service of Azure did not answer")


def test_the_time_out_is_one_second() -> None:
    """A start waits no longer for it, and the address is the one that all three share."""
    assert cloud.TIMEOUT_S == 1.0
    assert cloud.LINK_LOCAL == "http://169.254.169.254"


def test_the_settings_decide_whether_anybody_is_asked(
    tmp_path: Path, service: GridService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `auto` and no place set the machine's cloud is asked; with `off`, or a place, nobody is."""
    serve(service, gcp("europe-west9-b"))
    monkeypatch.setattr(cloud, "LINK_LOCAL", service.url)
    here = Config(path_sysfs=machine(tmp_path, GCP))
    for config in (
        replace(here, grid_cloud_metadata="off"),
        replace(here, grid_zone="SE"),
        replace(here, path_sysfs=tmp_path / "none"),
    ):
        assert CarbonService(config, {}).chain.location.zone in ("WORLD", "SE")
    assert service.requests == []
    location = CarbonService(here, {}).chain.location
    assert (location.zone, location.how) == (
        "FR",
        "The metadata service of Google Cloud says gcp:europe-west9 in FR.",
    )
