"""The words that the licence of each provider's figures asks for.

A table of its own, since the providers' modules need more than the base install has; a test keeps it equal
to the `attribution` of each.
"""

from collections.abc import Mapping
from typing import Final

from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.carbon.static import StaticProvider

ATTRIBUTIONS: Final[Mapping[str, str]] = {
    StaticProvider.name: ATTRIBUTION,
    ConfiguredProvider.name: "set by the operator of this node (grid.intensity).",
    "carbonintensity": "National Energy System Operator, Carbon Intensity API. CC BY 4.0.",
}
"""By the provider's name."""


def attribution_of(provider: str) -> str:
    """One line; of a provider that is not in the table its name alone."""
    return ATTRIBUTIONS.get(provider, f"{provider}.")
