"""The whole box's power as its management controller (BMC) sees it: IPMI DCMI, through ``/dev/ipmi0``.

One command, Get Power Reading (DCMI 1.5, 6.6.1): network function 2Ch, command 02h, group DCh.
The ioctl records are those of <linux/ipmi.h>. A platform reading: whether GPUs and fans are inside differs by
server, and supply losses are, so it overlaps the rest and is never summed.
"""

import ctypes
import errno
import fcntl
import os
import select
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wattspan.devices import sysfs
from wattspan.errors import NotHereError, ReadError
from wattspan.model import PlatformReading, SourceReport
from wattspan.units import NS_PER_S, UW_PER_W

_ASK_EVERY_NS: Final = 10 * NS_PER_S
"""BMCs refresh about once a second at best, and each question keeps their one slow bus busy."""

_SEND: Final = 0x8028690D
"""IPMICTL_SEND_COMMAND = _IOR('i', 13, struct ipmi_req) on 64-bit Linux."""

_RECEIVE: Final = 0xC030690B
"""IPMICTL_RECEIVE_MSG_TRUNC = _IOWR('i', 11, struct ipmi_recv) on 64-bit Linux."""

_BMC_ADDRESS: Final = struct.pack("@ihB", 0x0C, 0x0F, 0)
"""struct ipmi_system_interface_addr: IPMI_SYSTEM_INTERFACE_ADDR_TYPE, IPMI_BMC_CHANNEL, unit 0."""

_DCMI: Final = 0x2C
_GET_POWER_READING: Final = 0x02
_SYSTEM_POWER_STATISTICS: Final = bytes([0xDC, 0x01, 0x00, 0x00])

_ANSWER: Final = struct.Struct("<BBHHHHIIB")
"""Completion code, group, watts (now, minimum, maximum, average), timestamp, period in ms, state."""

_IS_MEASURING: Final = 0x40
"""Bit of the state byte."""

_UNSUPPORTED: Final = frozenset({0xC1, 0xC9, 0xCC, 0xD5})
"""Completion codes of a BMC without DCMI power: invalid command, parameter, field, state (IPMI 2.0, 5.2)."""


class _Message(ctypes.Structure):
    """struct ipmi_msg."""

    _fields_ = (
        ("netfn", ctypes.c_ubyte),
        ("cmd", ctypes.c_ubyte),
        ("data_len", ctypes.c_ushort),
        ("data", ctypes.c_void_p),
    )


class _Request(ctypes.Structure):
    """struct ipmi_req."""

    _fields_ = (
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    )


class _Received(ctypes.Structure):
    """struct ipmi_recv."""

    _fields_ = (
        ("recv_type", ctypes.c_int),
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    )


class IpmiSource:
    """The BMC's power reading, asked for every 10 s, or why there is none; repeated in between with its time.

    Args:
        device: the IPMI character device.
        answer_within_s: how long a BMC may take; less than the 3 s after which the sampler calls a read hung.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "ipmi"

    def __init__(
        self,
        device: Path = Path("/dev/ipmi0"),
        answer_within_s: float = 2.5,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._device = device
        self._answer_within_s = answer_within_s
        self._clock_ns = clock_ns
        self._file: int | None = None
        self._asked = 0
        self._asked_at_ns = 0
        self._found: PlatformReading | ReadError | None = None

    def open(self) -> str:
        """Open the device and ask once."""
        self.close()
        try:
            self._file = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            mend = ": run as root" if error.errno in {errno.EACCES, errno.EPERM} else ""
            raise NotHereError(f"{self._device}: {error.strerror}{mend}") from error
        try:
            reading = self._found = self._ask(self._file)
        except ReadError as error:
            self.close()
            if error.reason == "unsupported":
                raise NotHereError(error.detail) from error
            raise
        return f"{reading.sensor}: {reading.power_uw // UW_PER_W} W"

    def read(self) -> SourceReport:
        """The newest answer; blocks while the BMC thinks."""
        if self._file is None:
            raise ReadError("io", f"{self._device} is not open")
        started_ns = self._clock_ns()
        if self._found is None or started_ns - self._asked_at_ns >= _ASK_EVERY_NS:
            try:
                self._found = self._ask(self._file)
            except ReadError as error:
                self._found = error
        if isinstance(self._found, ReadError):
            raise ReadError(self._found.reason, self._found.detail) from self._found
        return SourceReport(self.name, started_ns, self._clock_ns(), platforms=(self._found,))

    def close(self) -> None:
        """Close the device."""
        file, self._file, self._found = self._file, None, None
        if file is not None:
            os.close(file)

    def _ask(self, file: int) -> PlatformReading:
        before_ns = self._asked_at_ns = self._clock_ns()
        self._asked += 1
        try:
            _send(file, self._asked)
            answer = self._answer(file)
        except OSError as error:
            raise sysfs.read_error(error, self._device) from error
        read_at_ns = (before_ns + self._clock_ns()) // 2
        return PlatformReading("ipmi-dcmi-0", read_at_ns, parse_power_uw(answer))

    def _answer(self, file: int) -> bytes:
        """The answer to the last question; late ones to earlier questions are thrown away."""
        poll = select.poll()
        poll.register(file, select.POLLIN)
        give_up_s = time.monotonic() + self._answer_within_s
        while (left_s := give_up_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                asked, answer = _receive(file)
                if asked == self._asked:
                    return answer
        raise ReadError("timeout", f"the BMC gave no answer within {self._answer_within_s:g} s")


def parse_power_uw(answer: bytes) -> int:
    """Microwatts in the answer to Get Power Reading.

    Raises:
        ReadError: ``unsupported`` by this BMC, or it is not measuring now.
    """
    code = answer[0] if answer else 0
    if code in _UNSUPPORTED:
        raise ReadError("unsupported", f"the BMC has no DCMI power reading (completion code {code:02X}h)")
    if code:
        raise ReadError("driver", f"the BMC answers with completion code {code:02X}h")
    if len(answer) < _ANSWER.size:
        raise ReadError("malformed", f"the BMC's answer has {len(answer)} bytes, not {_ANSWER.size}")
    _, _, now_w, _, _, _, _, _, state = _ANSWER.unpack_from(answer)
    if not state & _IS_MEASURING or now_w == 0:
        raise ReadError("unsupported", "the BMC is not measuring power")
    return int(now_w) * UW_PER_W


def _send(file: int, asked: int) -> None:
    data = ctypes.create_string_buffer(_SYSTEM_POWER_STATISTICS, len(_SYSTEM_POWER_STATISTICS))
    address = ctypes.create_string_buffer(_BMC_ADDRESS, 8)
    message = _Message(_DCMI, _GET_POWER_READING, len(data), ctypes.addressof(data))
    request = _Request(ctypes.addressof(address), len(address), asked, message)
    fcntl.ioctl(file, _SEND, request)


def _receive(file: int) -> tuple[int, bytes]:
    data, address = ctypes.create_string_buffer(64), ctypes.create_string_buffer(32)
    message = _Message(0, 0, len(data), ctypes.addressof(data))
    received = _Received(0, ctypes.addressof(address), len(address), 0, message)
    fcntl.ioctl(file, _RECEIVE, received)
    return received.msgid, data.raw[: received.msg.data_len]
