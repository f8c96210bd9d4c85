"""What becomes of the NVIDIA source when driver, library or cards fail."""

import os
import time
from ctypes.util import find_library
from pathlib import Path

import pynvml
import pytest

from tests.devices.nvidia_process import NvidiaProcess, cards, metering
from tests.fakes.nvml import FakeNvml
from wattspan.devices.nvidia import load_library
from wattspan.devices.nvml_errors import MEANINGS, Action
from wattspan.errors import REASONS, NotHereError, ReadError, RestartNeededError, SetupError
from wattspan.model import SourceReport, XidEvent


def lost_of(report: SourceReport) -> list[str | None]:
    return [failure.device for failure in report.failures if failure.reason == "lost"]


def test_the_table_knows_every_return_code() -> None:
    """Each NVML_ERROR_* of the installed pynvml has its reason and action, and no reason is made up."""
    known = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    assert known - set(MEANINGS) == set()
    assert {meaning.reason for meaning in MEANINGS.values()} <= set(REASONS)


@pytest.mark.parametrize("code", sorted(MEANINGS.keys() - {0}))
def test_whatever_a_call_answers_is_told_in_our_words(tmp_path: Path, code: int) -> None:
    """Any code of the batched call becomes a reading, a failure with the table's reason, or a restart."""
    meaning = MEANINGS[code]
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        fake.fail("nvmlDeviceGetFieldValues", code)
        if meaning.action is Action.RESTART:
            with pytest.raises(RestartNeededError):
                source.read()
            return
        report = source.read()
        if meaning.action is Action.ABSENT:
            assert len(report.gpus) == 1
            assert report.failures == ()
            return
        assert report.gpus == ()
        assert [(f.reason, f.device) for f in report.failures] == [(meaning.reason, fake.uuids[0])]
        assert f"code {code}" in report.failures[0].detail


def test_when_no_field_answers_the_gpu_has_failed(tmp_path: Path) -> None:
    """Passing errors of every field are a failure of the GPU, not a reading of nothing."""
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        source.read_gpus()
        for field in (83, 185, 186, 190, 230, 74, 76, 269, 270, 271):
            fake.fail(field, 10)
        report = source.read()
        assert report.gpus == ()
        assert [(f.reason, f.device) for f in report.failures] == [("timeout", fake.uuids[0])]
        fake.heal()
        assert len(source.read_gpus()) == 1


def test_one_field_that_fails_does_not_hide_that_the_others_are_refused(tmp_path: Path) -> None:
    """A GPU without field values is read by the single calls, whatever becomes of the one that fails."""
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        for field in (83, 185, 186, 190, 74, 76, 269, 270, 271):
            fake.fail(field, 3)
        fake.fail(230, 999)
        for _ in range(2):
            [reading] = source.read_gpus()
            assert reading.energy_uj == fake.energy_mj(0) * 1_000
            assert reading.recovery_action is None
        fake.heal(230)
        assert source.read_gpus()[0].recovery_action == 0


@pytest.mark.parametrize("code", [15, 16, 28])
def test_a_lost_gpu_costs_itself_alone(tmp_path: Path, code: int) -> None:
    """The lost GPU is a failure at each look and is left alone; the others go on to the millijoule."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        fake.lose(3, code=code)
        fake.advance(1)
        for _ in range(3):
            report = source.read()
            assert lost_of(report) == [fake.uuids[3]]
            assert {r.gpu.uuid: r.energy_uj for r in report.gpus} == {
                fake.uuids[i]: fake.energy_mj(i) * 1_000 for i in range(8) if i != 3
            }
        calls = fake.calls("nvmlDeviceGetFieldValues", 3)
        source.read()
        assert fake.calls("nvmlDeviceGetFieldValues", 3) == calls


def test_a_gpu_lost_in_an_optional_question_is_lost(tmp_path: Path) -> None:
    """The answer that a GPU is gone counts, whichever question gets it."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.fail("nvmlDeviceGetUtilizationRates", 15)
        assert lost_of(source.read()) == [fake.uuids[0]]


def test_a_lost_gpu_comes_back_by_its_uuid(tmp_path: Path) -> None:
    """After NVML is initialised anew each GPU goes on under its UUID, whatever its index is then."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        fake.lose(3)
        assert lost_of(source.read()) == [fake.uuids[3]]
        fake.bring_back(3)
        fake.swap_order(7, 6, 5, 4, 3, 2, 1, 0)
        source.pass_time(4)
        assert lost_of(source.read()) == [fake.uuids[3]], "not before the pause has passed"
        source.pass_time(1)
        fake.advance(5)
        report = source.read()
        assert report.failures == ()
        assert {r.gpu.uuid: (r.gpu.index, r.energy_uj) for r in report.gpus} == {
            fake.uuids[i]: (7 - i, fake.energy_mj(i) * 1_000) for i in range(8)
        }
        assert fake.init_count() == 1


@pytest.mark.parametrize("listed", [True, False])
def test_initialising_anew_is_tried_ever_more_seldom(tmp_path: Path, listed: bool) -> None:
    """While a GPU stays lost, NVML is initialised after 5, 10, 20, ... and at last every 300 seconds."""
    with metering(cards("h100", 8), tmp_path, events=False) as (fake, source):
        source.read_gpus()
        fake.lose(2, listed=listed)
        source.read()
        tried_after = []
        fake.clear_calls()
        for second in range(1, 1_300):
            source.pass_time(1)
            report = source.read()
            assert lost_of(report) == [fake.uuids[2]]
            assert len(report.gpus) == 7
            if fake.calls("nvmlInitWithFlags"):
                tried_after.append(second)
                fake.clear_calls()
        assert tried_after == [5, 15, 35, 75, 155, 315, 615, 915, 1215]


def test_the_pause_is_short_again_after_a_good_look(tmp_path: Path) -> None:
    """Each new trouble begins with a pause of five seconds."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        for _ in range(3):
            fake.lose(0)
            assert lost_of(source.read()) == list(fake.uuids)
            fake.bring_back(0)
            source.pass_time(5)
            assert source.read().failures == ()


def test_a_gpu_that_is_lost_at_the_start_is_told(tmp_path: Path) -> None:
    """A GPU that is counted and does not open is a failure by its index until it says who it is."""
    with metering(cards("h100", 8), tmp_path, opened=False) as (fake, source):
        fake.lose(1)
        assert "GPU 1" in source.open()
        report = source.read()
        assert len(report.gpus) == 7
        assert [(f.reason, f.device) for f in report.failures] == [("lost", "index-1")]
        fake.bring_back(1)
        source.pass_time(5)
        assert len(source.read_gpus()) == 8


def test_a_driver_that_forgot_us_is_initialised_anew(tmp_path: Path) -> None:
    """After UNINITIALIZED the answers are failures for a pause, then NVML is initialised and all is well."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        fake.fail("nvmlDeviceGetFieldValues", 1)
        assert {f.reason for f in source.read().failures} == {"driver"}
        fake.clear_calls()
        fake.heal()
        fake.fail("nvmlDeviceGetFieldValues", 1, times=8)
        source.pass_time(4)
        source.read()
        assert fake.calls("nvmlInitWithFlags") == 0
        source.pass_time(1)
        fake.heal()
        assert len(source.read_gpus()) == 8
        assert fake.calls("nvmlInitWithFlags") == 1


def test_a_driver_that_went_away_is_looked_for_with_pauses(tmp_path: Path) -> None:
    """While NVML cannot be initialised anew the source fails without a call to the driver, then is back."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        fake.fail("nvmlDeviceGetFieldValues", 9)
        fake.fail("nvmlInitWithFlags", 9)
        source.read()
        source.pass_time(5)
        with pytest.raises(ReadError) as caught:
            source.read()
        assert caught.value.reason == "driver"
        fake.clear_calls()
        source.pass_time(9)
        with pytest.raises(ReadError):
            source.read()
        assert fake.calls() == 0
        fake.heal()
        source.pass_time(1)
        assert len(source.read_gpus()) == 8


@pytest.mark.parametrize("where", ["open", "read", "init"])
def test_library_and_driver_out_of_step_need_a_new_process(tmp_path: Path, where: str) -> None:
    """Code 18 anywhere says that only a new process can go on."""
    with metering(cards("h100"), tmp_path, opened=where != "open") as (fake, source):
        if where == "init":
            fake.lose(0)
            source.read()
            source.pass_time(5)
            fake.fail("nvmlInitWithFlags", 18)
        else:
            fake.require_restart()
        with pytest.raises(RestartNeededError, match="code 18"):
            source.open() if where == "open" else source.read()
        fake.heal()


def test_a_call_that_hangs_costs_that_look_alone(tmp_path: Path) -> None:
    """Once a hung call returns, its report is complete and the next look is as quick and right as any."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        fake.clear_calls()
        fake.hang("nvmlDeviceGetFieldValues", gpu=4)
        source.begin("read")
        give_up = time.monotonic() + 20
        while not fake.calls("nvmlDeviceGetFieldValues", 4) and time.monotonic() < give_up:
            time.sleep(0.01)
        assert fake.calls("nvmlDeviceGetFieldValues", 5) == 0
        fake.xid(0, 119)
        fake.release()
        report = source.finish()
        assert len(report.gpus) == 8
        assert report.failures == ()
        fake.advance(1)
        assert [r.energy_uj for r in source.read_gpus()] == [fake.energy_mj(i) * 1_000 for i in range(8)]


def test_a_lost_gpu_does_not_spin_the_event_thread(tmp_path: Path) -> None:
    """NVML answers at once while a registered GPU is lost; the thread pauses then, and still tells XIDs."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        fake.lose(3)
        fake.clear_calls()
        time.sleep(0.5)
        assert fake.calls("nvmlEventSetWait_v2") < 20
        fake.xid(0, 31)
        give_up = time.monotonic() + 20
        while not source.read().xids:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_an_event_wait_that_hangs_holds_up_nothing(tmp_path: Path) -> None:
    """The source closes without the hung thread, which ends once the driver lets it go."""
    with metering(cards("h100"), tmp_path, sets_left=1) as (fake, source):
        fake.hang("nvmlEventSetWait_v2")
        give_up = time.monotonic() + 20
        while not fake.hung():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert len(source.read_gpus()) == 1
        source.close()
        assert fake.init_count() == 0
        fake.release()
        while "nvidia-events" in source.threads():
            assert time.monotonic() < give_up
            time.sleep(0.02)


def test_handles_are_given_up_and_taken_again(tmp_path: Path) -> None:
    """After close nothing of ours holds the driver, so a GPU can be reset; open finds all of them again."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        assert fake.init_count() == 1
        assert fake.open_event_sets() == 1
        source.close()
        assert (fake.init_count(), fake.open_event_sets(), fake.waiting()) == (0, 0, 0)
        assert "nvidia-events" not in source.threads()
        source.close()

        fake.reset_counter(0)
        fake.swap_order(1, 0, 2, 3, 4, 5, 6, 7)
        assert "8 x" in source.open()
        readings = source.read_gpus()
        assert [r.gpu.uuid for r in readings[:2]] == [fake.uuids[1], fake.uuids[0]]
        assert readings[1].energy_uj == fake.energy_mj(0) * 1_000


def test_an_xid_is_not_lost_with_its_session(tmp_path: Path) -> None:
    """An XID that came before a release is told with the first report after it."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        source.read_gpus()
        waits = fake.calls("nvmlEventSetWait_v2")
        fake.xid(0, 79)
        give_up = time.monotonic() + 20
        while fake.calls("nvmlEventSetWait_v2") == waits:  # the thread has taken it and waits for the next
            assert time.monotonic() < give_up
            time.sleep(0.02)
        source.close()
        source.open()
        assert source.read().xids == (XidEvent(fake.uuids[0], 79),)


def test_a_gpu_that_did_not_survive_its_release_is_lost(tmp_path: Path) -> None:
    """A GPU that was metered before and does not return after a release is a failure, not forgotten."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        source.read_gpus()
        source.close()
        fake.lose(6, listed=False)
        source.open()
        report = source.read()
        assert lost_of(report) == [fake.uuids[6]]
        assert len(report.gpus) == 7


def test_a_failed_start_leaves_nothing_open(tmp_path: Path) -> None:
    """When the enumeration fails NVML is shut down again."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.fail("nvmlDeviceGetCount_v2", 999, times=1)
        with pytest.raises(ReadError) as caught:
            source.open()
        assert caught.value.reason == "unknown"
        assert fake.init_count() == 0
        assert "1 x" in source.open()


def test_gpus_that_are_not_ours_are_no_failure(tmp_path: Path) -> None:
    """In a container or job with a share of the GPUs, the others are counted by NVML and are none of ours."""
    with metering(cards("h100", 8), tmp_path, opened=False) as (fake, source):
        for gpu in range(6):
            fake.fail("nvmlDeviceGetUUID", 4, gpu=gpu)
        assert "6 more that we may not open" in source.open()
        report = source.read()
        assert [reading.gpu.uuid for reading in report.gpus] == list(fake.uuids[6:])
        assert report.failures == ()


@pytest.mark.parametrize(
    ("function", "code", "mending"),
    [
        ("nvmlInitWithFlags", 9, "modprobe nvidia"),
        ("nvmlInitWithFlags", 12, "install the NVIDIA driver"),
        ("nvmlInitWithFlags", 4, "/dev/nvidiactl"),
        ("nvmlInitWithFlags", 17, "/dev/nvidiactl"),
        ("nvmlDeviceGetUUID", 4, "/dev/nvidiactl"),
    ],
)
def test_what_is_not_here_is_told_with_its_mending(
    tmp_path: Path, function: str, code: int, mending: str
) -> None:
    """A machine without a driver, or one that keeps it from us, is told in one line that says what to do."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.fail(function, code)
        with pytest.raises(NotHereError, match=mending):
            source.open()


def test_no_gpu_at_all_is_not_here(tmp_path: Path) -> None:
    """A driver that counts no GPU is no source."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.lose(0, listed=False)
        with pytest.raises(NotHereError, match="counts no GPU"):
            source.open()


def child_with(library_path: Path | None) -> NvidiaProcess:
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if library_path is not None:
        environment["LD_LIBRARY_PATH"] = str(library_path)
    return NvidiaProcess(environment)


def test_a_library_that_is_no_nvml_is_not_here(tmp_path: Path) -> None:
    """A libnvidia-ml.so.1 without NVML's symbols is named as such."""
    with FakeNvml(cards("h100"), tmp_path, library="not_nvml") as fake:
        child = child_with(Path(fake.library).parent)
        try:
            child.make(fake.state_path)
            with pytest.raises(NotHereError, match=r"is no NVML.*--nvml\.library"):
                child.open()
        finally:
            child.end()


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has an NVML")
def test_no_library_is_not_here(tmp_path: Path) -> None:
    """Without libnvidia-ml.so.1 the line says how to get it or where to name it."""
    child = child_with(None)
    try:
        child.make(tmp_path)
        with pytest.raises(NotHereError, match=r"was not found.*--nvml\.library"):
            child.open()
    finally:
        child.end()


def test_a_library_named_by_path_is_the_one_used(tmp_path: Path) -> None:
    """--nvml.library works without any search path."""
    with FakeNvml(cards("h100"), tmp_path) as fake:
        child = child_with(None)
        try:
            child.make(fake.state_path, library=str(fake.library))
            assert "H100" in child.open()
            assert child.read_gpus()[0].energy_uj == fake.energy_mj(0) * 1_000
            child.close()
        finally:
            child.end()


def test_a_path_that_is_no_nvml_stops_the_start(tmp_path: Path) -> None:
    """A wrong --nvml.library is told with the flag, its value and what is wrong with it."""
    (tmp_path / "libtext.so").write_text("no library")
    with pytest.raises(SetupError, match=r"--nvml\.library .*libtext\.so: cannot be loaded"):
        load_library(str(tmp_path / "libtext.so"))
    with pytest.raises(SetupError, match=r"--nvml\.library .*libabsent\.so: cannot be loaded"):
        load_library(str(tmp_path / "libabsent.so"))
    with pytest.raises(SetupError, match=r"--nvml\.library libc\.so\.6: is no NVML"):
        load_library("libc.so.6")
