"""What things look like on every dashboard: units, colours, thresholds and the words for numbers.

One thing has one colour everywhere; a reader who knows one dashboard can read the next.
"""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.models import dashboard

WATT: Final = "watt"
JOULE: Final = "joule"
KWH: Final = "kwatth"
"""Joules are divided by `J_PER_KWH` in the query: the unit `joule` would go on in MJ and GJ."""
GRAMS: Final = "massg"
"""Grows to kg, Mg by itself."""
INTENSITY: Final = "suffix: g/kWh"
RATIO: Final = "percentunit"
SECONDS: Final = "s"
AGE: Final = "dtdurations"
WHEN: Final = "dateTimeAsIso"
IN: Final = "dateTimeFromNow"
CELSIUS: Final = "celsius"
BYTES: Final = "bytes"
COUNT: Final = "short"
MONEY: Final = "short"
"""The currency is a label: the legend or a column names it."""
LITRES: Final = "litre"
PER_SECOND: Final = "suffix: /s"
TEXT: Final = "none"

J_PER_KWH: Final = "3.6e6"
S_PER_H: Final = "3600"

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = (
    "green",
    "#EAB839",
    "orange",
    "red",
    "blue",
    "purple",
    "#8e8e99",
)

SHARES: Final = {"run": BLUE, "pod": PURPLE, "idle": YELLOW, "unattributed": RED}
"""Who held the GPU, by the label `share`."""

COMPONENTS: Final = {"GPU": GREEN, "CPU": ORANGE, "DRAM": "#5794F2", "GPU limit": RED}
"""Parts of a node, by legend."""

WASTE: Final = {"idle_held": YELLOW, "failed": RED, "repeated": ORANGE}
"""Why energy came to nothing, by the label `reason`."""

PARTS: Final = {"operational": ORANGE, "embodied": "#705DA0"}
"""Parts of the grams, by the label `part`."""

BASES: Final = {"location based": ORANGE, "market based": "#56A64B"}
"""By the grid of the place, and by the contract."""

COVERAGE: Final = {"measured": GREEN, "estimated": ORANGE, "unattributed": RED}
"""How much of the energy is known, and how, by legend."""

RUNS: Final = {
    "this run": BLUE,
    "the other run": ORANGE,
    "projected": PURPLE,
    "budget": RED,
    "greenest": GREEN,
}

Steps = tuple[tuple[float | None, str], ...]

PLAIN: Final[Steps] = ((None, "text"),)
# The first colour is also that of no figure: grey, so that nothing looks well only because nobody looks.
OLD: Final[Steps] = ((None, GREY), (-1e9, GREEN), (60, YELLOW), (300, RED))
"""Seconds since something that happens each second; clocks may differ a little."""
ANY_IS_BAD: Final[Steps] = ((None, GREY), (0, GREEN), (1, RED))
ANY_IS_ODD: Final[Steps] = ((None, GREY), (0, GREEN), (1, YELLOW))
FULL: Final[Steps] = ((None, GREY), (0, GREEN), (0.8, YELLOW), (1, RED))
"""Of something that is used up: over 1 is too much."""
LEFT: Final[Steps] = ((None, GREY), (-1e9, RED), (0, ORANGE), (0.1, YELLOW), (0.25, GREEN))
"""Of something that is left."""
SHARE_LOST: Final[Steps] = ((None, GREY), (0, GREEN), (0.05, YELLOW), (0.2, RED))
"""Of a share that nobody should see grow, such as the unattributed one."""
BURN: Final[Steps] = ((None, GREY), (0, GREEN), (1, YELLOW), (2, ORANGE), (6, RED))
"""Speed of consumption over the speed that just lasts for the period."""
DIRTY: Final[Steps] = ((None, GREY), (0, GREEN), (100, YELLOW), (300, ORANGE), (600, RED))
"""Grams per kWh: hydro and nuclear, mixed, gas, coal."""
HOT: Final[Steps] = ((None, GREY), (0, GREEN), (80, YELLOW), (87, ORANGE), (92, RED))
"""Celsius; NVIDIA's data-centre cards slow down from about 87."""


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Colours from these values on; the first has no value and stands for everything below."""
    return dashboard.ThresholdsConfig(
        mode=dashboard.ThresholdsMode.ABSOLUTE,
        steps=[dashboard.Threshold(value=value, color=colour) for value, colour in steps],
    )


def words(meaning: Mapping[str, tuple[str, str]]) -> dashboard.ValueMap:
    """Instead of a number its word, in a colour."""
    return dashboard.ValueMap(
        options={
            value: dashboard.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(meaning.items())
        }
    )


UP: Final = {"0": ("down", RED), "1": ("up", GREEN)}
YES: Final = {"0": ("no", "text"), "1": ("yes", "text")}
ESTIMATED: Final = {"0": ("measured", GREEN), "1": ("estimated", YELLOW)}
FALLBACK: Final = {"0": ("first choice", GREEN), "1": ("1 step down", YELLOW), "2": ("2 steps down", ORANGE)}
RECOVERY: Final = {
    "0": ("none", GREEN),
    "1": ("GPU reset", ORANGE),
    "2": ("node reboot", RED),
    "3": ("drain", ORANGE),
    "4": ("drain and reset", RED),
}
"""wattspan_gpu_recovery_action."""
