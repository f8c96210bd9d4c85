"""Every NVML return code: what it means to us and what follows from it, in one table.

The codes are those of ``nvmlReturn_t`` in NVIDIA's nvml.h.
A test holds the table against every ``NVML_ERROR_*`` that the installed pynvml knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from wattspan.errors import ReadError, Reason, RestartNeededError


class Action(Enum):
    """What follows from a return code."""

    ABSENT = "absent"
    """This device or driver cannot answer: do not ask again under this initialisation."""
    EMPTY = "empty"
    """There is nothing to tell just now."""
    RETRY = "retry"
    """Failed this time: ask again at the next look."""
    LOST = "lost"
    """The device is gone or needs a reset: leave it alone until NVML is initialised anew."""
    REINITIALISE = "reinitialise"
    """No device answers under this initialisation any more."""
    RESTART = "restart"
    """Library and driver are out of step, and a loaded library is never given up: start a new process."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A return code in our words.

    Attributes:
        reason: for `Failure`, from the closed set.
        action: what follows.
    """

    reason: Reason
    action: Action


SUCCESS: Final = 0
INVALID_ARGUMENT: Final = 2
NO_PERMISSION: Final = 4
INSUFFICIENT_SIZE: Final = 7
DRIVER_NOT_LOADED: Final = 9
TIMEOUT: Final = 10
LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
OPERATING_SYSTEM: Final = 17

MEANINGS: Final[Mapping[int, Meaning]] = MappingProxyType(
    {
        # pynvml raises NVMLError(0) itself where a library says SUCCESS and hands over nothing.
        SUCCESS: Meaning("malformed", Action.EMPTY),
        1: Meaning("driver", Action.REINITIALISE),  # UNINITIALIZED
        INVALID_ARGUMENT: Meaning("malformed", Action.RETRY),
        3: Meaning("unsupported", Action.ABSENT),  # NOT_SUPPORTED
        # A device cgroup may be opened to us later, so a refusal is no lasting answer.
        NO_PERMISSION: Meaning("permission", Action.RETRY),
        5: Meaning("driver", Action.RETRY),  # ALREADY_INITIALIZED
        6: Meaning("malformed", Action.EMPTY),  # NOT_FOUND: a hole in the MIG layout, no new samples
        INSUFFICIENT_SIZE: Meaning("malformed", Action.RETRY),
        8: Meaning("driver", Action.RETRY),  # INSUFFICIENT_POWER: a power cable is off
        DRIVER_NOT_LOADED: Meaning("driver", Action.REINITIALISE),
        TIMEOUT: Meaning("timeout", Action.RETRY),
        11: Meaning("driver", Action.RETRY),  # IRQ_ISSUE
        LIBRARY_NOT_FOUND: Meaning("library", Action.REINITIALISE),
        FUNCTION_NOT_FOUND: Meaning("unsupported", Action.ABSENT),
        14: Meaning("driver", Action.RETRY),  # CORRUPTED_INFOROM
        15: Meaning("lost", Action.LOST),  # GPU_IS_LOST
        16: Meaning("lost", Action.LOST),  # RESET_REQUIRED
        OPERATING_SYSTEM: Meaning("permission", Action.RETRY),
        18: Meaning("library", Action.RESTART),  # LIB_RM_VERSION_MISMATCH
        19: Meaning("driver", Action.RETRY),  # IN_USE
        20: Meaning("driver", Action.RETRY),  # MEMORY
        21: Meaning("malformed", Action.EMPTY),  # NO_DATA
        22: Meaning("unsupported", Action.ABSENT),  # VGPU_ECC_NOT_SUPPORTED
        23: Meaning("driver", Action.RETRY),  # INSUFFICIENT_RESOURCES
        24: Meaning("unsupported", Action.ABSENT),  # FREQ_NOT_SUPPORTED
        25: Meaning("unsupported", Action.ABSENT),  # ARGUMENT_VERSION_MISMATCH: this struct is not known here
        26: Meaning("unsupported", Action.ABSENT),  # DEPRECATED
        27: Meaning("driver", Action.RETRY),  # NOT_READY
        28: Meaning("lost", Action.LOST),  # GPU_NOT_FOUND
        29: Meaning("driver", Action.RETRY),  # INVALID_STATE
        30: Meaning("unsupported", Action.ABSENT),  # RESET_TYPE_NOT_SUPPORTED
        999: Meaning("unknown", Action.RETRY),  # UNKNOWN
    }
)

UNKNOWN_MEANING: Final = Meaning("unknown", Action.RETRY)
"""Of a code that a newer driver has and nvml.h did not have when this was written."""


def errors_of(pynvml: Any) -> tuple[type[Exception], ...]:
    """What pynvml's functions raise.

    Some wrappers turn a missing symbol into NVMLLibraryMismatchError, which is no NVMLError.
    """
    return pynvml.NVMLError, pynvml.NVMLLibraryMismatchError


def code_of(error: Exception) -> int:
    """The return code behind one of `errors_of`; pynvml's own `==` raises on foreign values."""
    code: int = getattr(error, "value", FUNCTION_NOT_FOUND)
    return code


def meaning_of(code: int) -> Meaning:
    """What a return code means to us."""
    return MEANINGS.get(code, UNKNOWN_MEANING)


def translate(error: Exception, what: str, device: str | None = None) -> ReadError:
    """The error of ours that stands for one of `errors_of`.

    Args:
        error: what pynvml raised.
        what: what was being done, for the log.
        device: the GPU's UUID, or None when it concerns them all.

    Raises:
        RestartNeededError: only a new process can go on.
    """
    code = code_of(error)
    meaning = meaning_of(code)
    if meaning.action is Action.RESTART:
        raise RestartNeededError(
            "the NVIDIA driver was upgraded under the library that this process has loaded (NVML code 18): "
            "a new process gets the new library"
        ) from error
    return ReadError(meaning.reason, f"{what}: {error} (NVML code {code})", device)
