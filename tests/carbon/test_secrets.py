"""Secrets come from files or the environment, and are shown nowhere."""

import traceback
from pathlib import Path

import pytest

from wattspan.carbon.secret import MAX_CHARACTERS, Secret
from wattspan.errors import FetchError

MARKER = "s3cr3t-Marker"
VARIABLE = "WATTSPAN_GRID_TEST_TOKEN"


def of_file(tmp_path: Path, content: bytes) -> Secret:
    """The secret in a file with this content."""
    file = tmp_path / "token"
    file.write_bytes(content)
    return Secret("grid.test.token-file", file, VARIABLE)


def refusal(secret: Secret) -> FetchError:
    """What a secret that is none raises; its text names the setting and does not quote."""
    with pytest.raises(FetchError) as caught:
        secret.read()
    error = caught.value
    assert error.reason == "refused"
    assert "grid.test.token-file" in error.detail
    assert MARKER not in "".join(traceback.format_exception(error))
    return error


@pytest.mark.parametrize(
    "content",
    [f"{MARKER}", f"{MARKER}\n", f"  {MARKER} \r\n", f"{MARKER}\nsecond line\n", f"\ufeff{MARKER}\n"],
)
def test_a_file_holds_it_on_its_first_line(tmp_path: Path, content: str) -> None:
    """Editors leave line ends, spaces and byte order marks: none is part of the secret."""
    assert of_file(tmp_path, content.encode()).read() == MARKER


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    """A rotated token counts from the next question on, without a restart."""
    secret = of_file(tmp_path, b"old")
    assert secret.read() == "old"
    of_file(tmp_path, b"new")
    assert secret.read() == "new"


def test_the_environment_holds_it_where_no_file_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable counts if no file is set, and the file goes before it."""
    monkeypatch.setenv(VARIABLE, f" {MARKER}\n")
    assert Secret("grid.test.token-file", None, VARIABLE).read() == MARKER
    assert Secret("grid.test.token-file", None, VARIABLE).is_set
    assert of_file(tmp_path, b"of the file").read() == "of the file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n" + MARKER.encode(),
        f"{MARKER}\u2026".encode(),
        f"{MARKER}\x00".encode(),
        f"{MARKER}\x0bX-Header: 1".encode(),
        MARKER.encode() + b"\xff",
        MARKER.encode() * MAX_CHARACTERS,
    ],
)
def test_what_is_no_secret_is_not_sent(tmp_path: Path, content: bytes) -> None:
    """An empty file, a key in binary or a line that would write headers of its own is refused, unquoted."""
    refusal(of_file(tmp_path, content))


@pytest.mark.parametrize("value", [f"{MARKER}\r\nX-Header: 1", f"{MARKER}\u2026", MARKER * MAX_CHARACTERS])
def test_the_environment_is_held_to_the_same(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A variable is no safer than a file."""
    monkeypatch.setenv(VARIABLE, value)
    assert VARIABLE in refusal(Secret("grid.test.token-file", None, VARIABLE)).detail


def test_without_any_the_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is not there is refused by the names of the setting and of the variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    nowhere = Secret("grid.test.token-file", None, VARIABLE)
    assert VARIABLE in refusal(nowhere).detail
    assert not nowhere.is_set
    missing = Secret("grid.test.token-file", tmp_path / "missing", VARIABLE)
    assert str(tmp_path / "missing") in refusal(missing).detail
    assert missing.is_set  # as far as can be told: it may be mounted later
    refusal(Secret("grid.test.token-file", tmp_path, VARIABLE))


def test_its_record_does_not_show_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the text of the record nor its fields have the secret in them."""
    monkeypatch.setenv(VARIABLE, MARKER)
    for secret in (Secret("k", None, VARIABLE), of_file(tmp_path, MARKER.encode())):
        secret.read()
        assert MARKER not in repr(secret) + str(secret)
