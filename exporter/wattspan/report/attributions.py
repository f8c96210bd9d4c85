"""The words that the licence of each provider's figures asks for.

A table of its own, since the providers' modules need more than the base install has; a test keeps it equal
to the `attribution` of each.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.carbon.static import StaticProvider
from wattspan.runs import Factor

ATTRIBUTIONS: Final[Mapping[str, str]] = {
    StaticProvider.name: ATTRIBUTION,
    ConfiguredProvider.name: "set by the operator of this node (grid.intensity).",
    "carbonintensity": "National Energy System Operator, Carbon Intensity API. CC BY 4.0.",
    "energycharts": "Fraunhofer ISE, Energy-Charts. CC BY 4.0.",
    "eco2mix": "RTE, eCO2mix, by way of ODRE. Licence Ouverte 2.0 (Etalab).",
    "electricitymaps": "Electricity Maps (electricitymaps.com), under the licence of the token's plan.",
    "watttime": "WattTime (watttime.org), under the licence of the account's plan.",
    "entsoe": "ENTSO-E Transparency Platform, transparency.entsoe.eu.",
    "eia": "U.S. Energy Information Administration, Form EIA-930. Public domain.",
}
"""By the provider's name. One that passes on what others say has none of its own."""

ORIGINS_MAX: Final = 3
"""Origins that are named of a provider that has no attribution of its own."""


def attribution_of(provider: str, factors: Iterable[Factor] = ()) -> str:
    """One line: what the licence asks for, else where the provider said that its figures were from."""
    if (said := ATTRIBUTIONS.get(provider)) is not None:
        return said
    origins = list(dict.fromkeys(f.origin for f in factors if f.provider == provider and f.origin))
    if not origins:
        return f"{provider}."
    more = " and more" if len(origins) > ORIGINS_MAX else ""
    return f"{provider}: {'; '.join(origins[:ORIGINS_MAX])}{more}"
