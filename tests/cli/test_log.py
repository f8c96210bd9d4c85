"""Log lines: one per event, and nothing from outside can make two of one."""

import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan import log
from wattspan.config import LogFormat, LogLevel

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=50)
"""Control characters, bidi marks and lone surrogates included."""

PAIR = re.compile(r'([A-Za-z0-9._-]+)=("(?:[^"\\]|\\.)*"|[^ "]+)(?: |$)')


def pairs(line: str) -> dict[str, str]:
    """A logfmt line as a reader takes it apart; fails when anything is left over."""
    assert PAIR.sub("", line) == ""
    return dict(PAIR.findall(line))


pytestmark = pytest.mark.usefixtures("logging_as_before")


def written(style: str, level: str = "info") -> io.StringIO:
    """Where the log goes from now on."""
    stream = io.StringIO()
    log.setup(cast("LogLevel", level), cast("LogFormat", style), stream)
    return stream


def test_a_logfmt_line() -> None:
    """Time, level, room and message come first, then the fields."""
    stream = written("logfmt")
    logging.getLogger("wattspan.web").warning(
        "cannot %s", "bind", extra=log.fields(port=9746, why='a "b"', up=False)
    )
    line = stream.getvalue()
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warning room=web"
        r' msg="cannot bind" port=9746 why="a \\"b\\"" up=false\n',
        line,
    )


def test_a_json_line() -> None:
    """JSON keeps numbers and booleans; what JSON cannot say becomes text."""
    stream = written("json")
    logging.getLogger("wattspan").info(
        "hello", extra=log.fields(n=1, x=0.5, none=None, nan=float("nan"), msg="own")
    )
    document = json.loads(stream.getvalue())
    assert document | {"ts": ""} == {
        "ts": "", "level": "info", "room": "wattspan", "msg": "hello",
        "n": 1, "x": 0.5, "none": None, "nan": "nan", "msg_": "own",
    }  # fmt: skip


@pytest.mark.parametrize("style", ["logfmt", "json"])
@given(message=ANY_TEXT, name=ANY_TEXT, value=ANY_TEXT)
def test_nothing_forges_a_line(style: str, message: str, name: str, value: str) -> None:
    """Whatever message and fields hold, it is one printable line that can be taken apart."""
    stream = written(style)
    logging.getLogger("wattspan.x").error("%s", message, extra={"fields": {name: value}})
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    facts = json.loads(line) if style == "json" else pairs(line[:-1])
    assert facts["room"] == "x"
    assert len(facts) == 5


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_an_exception_is_one_line(style: str) -> None:
    """An exception is a field; where it came from shows only at debug, and still on one line."""
    for level, shown in (("info", False), ("debug", True)):
        stream = written(style, level)
        try:
            raise ValueError("bad\nlevel=error msg=forged")
        except ValueError:
            logging.getLogger("wattspan.x").exception("failed")
        line = stream.getvalue()
        assert line.count("\n") == 1
        assert "ValueError: bad" in line
        assert ("Traceback" in line) is shown


def test_a_long_value_is_cut() -> None:
    """One line cannot fill the disk."""
    stream = written("logfmt")
    logging.getLogger("wattspan.x").error("x" * 10**6)
    assert len(stream.getvalue()) < 2 * log.MAX_VALUE_CHARS


def test_levels() -> None:
    """Our own lines follow the chosen level; libraries are heard from warning on."""
    stream = written("logfmt", "info")
    logging.getLogger("wattspan.x").debug("no")
    logging.getLogger("wattspan.x").info("yes")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("uvicorn.access").error("no")
    logging.getLogger("asyncio").warning("yes")
    assert [pairs(line)["msg"] for line in stream.getvalue().splitlines()] == ["yes", "yes"]


def test_errors_outside_of_the_log(tmp_path: Path) -> None:
    """A thread that dies, a warning and a broken format argument show no traceback on stderr."""
    code = """
import logging, threading, warnings
from wattspan import log
log.setup("info", "logfmt")
def die(): raise ValueError("in a thread")
thread = threading.Thread(target=die, name="worker"); thread.start(); thread.join()
warnings.warn("old way")
logging.getLogger("wattspan.x").error("%d", "text")
class Broken:
    def __del__(self): raise ValueError("in del")
Broken()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr
    lines = [pairs(line) for line in done.stderr.splitlines()]
    assert [line.get("error") for line in lines] == [
        '"ValueError: in a thread"',
        None,
        '"ValueError: in del"',
    ]
    assert lines[0]["thread"] == "worker"
