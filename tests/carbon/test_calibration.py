"""The operator's calibration file, good and bad."""

from pathlib import Path

import pytest

from wattspan.carbon.calibration import read
from wattspan.errors import SetupError
from wattspan.runs import Calibration

HEAD = "uuid,gain,uncertainty,provenance\n"
LINE = 'GPU-1a,1.032,0.008,"LMG671, 12 V rails, 2026-05-11"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "calibration.csv"


def test_a_file_is_read(file: Path) -> None:
    """One line for each GPU; blank lines, spaces, any order of columns and a spreadsheet's mark are fine."""
    file.write_bytes(f"\ufeff{HEAD}{LINE}\r\n GPU-2b , 0.97 , 0 , house meter \n".encode())
    assert read(file) == {
        "GPU-1a": Calibration(1.032, 0.008, "LMG671, 12 V rails, 2026-05-11"),
        "GPU-2b": Calibration(0.97, 0.0, "house meter"),
    }
    file.write_text("provenance,uuid,uncertainty,gain\nmeter,GPU-3c,0.5,2\n")
    assert read(file) == {"GPU-3c": Calibration(2.0, 0.5, "meter")}


def test_a_file_without_gpus_calibrates_none(file: Path) -> None:
    """A head alone is a file in the making."""
    file.write_text(HEAD)
    assert read(file) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty; allowed: a line with uuid, gain, uncertainty, provenance"),
        ("uuid,gain\n", "line 1: columns 'uuid, gain'"),
        ("uuid,gain,uncertainty,provenance,more\n", "line 1: columns"),
        ("uuid,gain,gain,provenance\n", "line 1: columns"),
        (HEAD + "GPU-1,1.0,0.01\n", "line 2: 3 cells; allowed: 4"),
        (HEAD + ",1.0,0.01,x\n", "line 2: uuid is empty"),
        (HEAD + LINE + "GPU-2,1.0,0.01,\n", "line 3: provenance is empty"),
        (HEAD + LINE + LINE, "line 3: uuid: 'GPU-1a' is there twice"),
        (
            HEAD + "GPU-1,much,0.01,x\n",
            "line 2: gain: 'much' is not allowed; allowed: a number from 0.5 to 2",
        ),
        (HEAD + "GPU-1,0.49,0.01,x\n", "line 2: gain: '0.49'"),
        (HEAD + "GPU-1,2.01,0.01,x\n", "line 2: gain: '2.01'"),
        (HEAD + "GPU-1,nan,0.01,x\n", "line 2: gain: 'nan'"),
        (HEAD + "GPU-1,inf,0.01,x\n", "line 2: gain: 'inf'"),
        (HEAD + "GPU-1,1,-0.01,x\n", "line 2: uncertainty: '-0.01'"),
        (
            HEAD + "GPU-1,1,0.51,x\n",
            "line 2: uncertainty: '0.51' is not allowed; allowed: a number from 0 to 0.5",
        ),
        (HEAD + "GPU-1,1,,x\n", "line 2: uncertainty: ''"),
        (HEAD + LINE + 'GPU-1,1,0.1,"x\n', "line 3: unexpected end of data"),
    ],
)
def test_whatever_is_wrong_is_named(file: Path, text: str, said: str) -> None:
    """A file that cannot be what is meant says in which line and member, and what is allowed."""
    file.write_text(text)
    with pytest.raises(SetupError) as error:
        read(file)
    assert str(error.value).startswith("calibration.file: ")
    assert said in str(error.value)


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    """No file, and a file that is no text."""
    with pytest.raises(SetupError, match="No such file"):
        read(file)
    file.write_bytes(b"uuid\xff\xfe")
    with pytest.raises(SetupError, match="no UTF-8"):
        read(file)
