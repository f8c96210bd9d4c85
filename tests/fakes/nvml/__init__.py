"""A C libnvidia-ml.so.1 that the real pynvml loads, and the driver that plays scenarios on it.

The README beside this file has the scenario keys, the methods and the protocol.
"""

from tests.fakes.nvml.driver import FakeNvml
from tests.fakes.nvml.library import Variant, build_library
from tests.fakes.nvml.scenario import GpuSpec, MigInstance, Process, Scenario, load_scenario, parse_scenario

__all__ = [
    "FakeNvml",
    "GpuSpec",
    "MigInstance",
    "Process",
    "Scenario",
    "Variant",
    "build_library",
    "load_scenario",
    "parse_scenario",
]
