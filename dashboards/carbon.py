"""Carbon and cost: how clean the grid is and how well that is known, budgets, footprint and money."""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.fleet import HORIZONS, NEEDS_RULES, NO_BUDGET
from dashboards.frame import CLUSTER, board
from dashboards.frame import IN_CLUSTER as C
from dashboards.panels import Column, Query, bars, course, stat, table
from dashboards.queries import RATE, how_many, kwh, this_month

ZONE: Final = "grid_zone, signal, basis"
BUDGET: Final = "budget, period"
OWNER: Final = "pod_namespace, project"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-carbon",
        "Wattspan / Carbon and cost",
        "Where the grams come from, how well they are known, what is left of the budgets, and what it costs.",
        [CLUSTER],
        [
            ("Is something wrong?", _wrong()),
            ("The grid now: which figure, how old, who says so", [_in_force(), _providers(), *_grid()]),
            ("The grid to come", [_forecast(), _greenest()]),
            ("Budgets", [*_of_budgets(), _budgets(), *_burn()]),
            ("Grams and money", [*_footprint(), _owners(), *_money()]),
        ],
        since="now-24h",
    )


def _grid_of(name: str) -> str:
    return f"max by ({ZONE}) (wattspan_grid_{name}{{{C}}})"


def _of_budget(name: str) -> str:
    return f"max by ({BUDGET}) ({name}{{{C}}})"


def _wrong() -> list[object]:
    return [
        stat("Stale zones", "Grid zones whose figure in force has run out and will not be used any more in"
             " half an hour; one that is as late as ever is well.", look.COUNT,
             Query(f"count({_grid_of('valid_until_timestamp_seconds')} < time() - 1800"
                   f" and {_grid_of('fallback_timestamp_seconds')} < time() + 1800)"
                   f" or 0 * count({_grid_of('intensity_grams_per_kwh')})"), w=5,
             steps=look.ANY_IS_BAD, alarm=True),
        stat("Fallback in use", "Grid zones where the first choice of the providers says nothing.",
             look.COUNT,
             Query(how_many(_grid_of("fallback_level"), "> 0")), w=5, steps=look.ANY_IS_ODD,
             alarm=True),
        stat("Unpriced", "Energy of the chosen range for which no intensity was known: it is in no"
             " gram.", look.KWH,
             Query(kwh(f"sum(increase(wattspan_unpriced_energy_joules_total{{{C}}}[$__range]))")), w=5,
             steps=((None, look.GREY), (0, look.GREEN), (0.001, look.RED)), alarm=True, decimals=1),
        stat("PUE", "What grams and cost are multiplied by; 1 where nobody has set it.", look.TEXT,
             Query(f"max(wattspan_pue_ratio{{{C}}})"), w=4, decimals=2),
        stat("PUE not set", "Nodes whose PUE nobody has set: their grams and cost lack the building's part.",
             look.COUNT, Query(how_many(f"wattspan_pue_configured{{{C}}}", "== 0")), w=5,
             steps=look.ANY_IS_ODD, alarm=True),
    ]  # fmt: skip


def _in_force() -> object:
    return table(
        "In force, by zone", "The figure that grams are made with. Measured means a live figure of this"
        " hour; estimated is a yearly mean, a model, or one that is held beyond its own time. Age is since it"
        " was fetched; a dash is a table or your own figure.",
        [
            Column("Zone", "grid_zone", width=60),
            Column("Signal", "signal", width=75),
            Column("Basis", "basis", width=75),
            Column("Intensity", "A", look.INTENSITY, steps=look.DIRTY, width=100, decimals=0),
            Column("Kind", "B", words=look.ESTIMATED, width=85),
            Column("Chain", "C", words=look.FALLBACK, width=95),
            Column("Age", "D", look.SECONDS, width=75, decimals=0,
                   steps=((None, "text"), (3600, look.YELLOW), (7200, look.RED))),
            Column("Holds for", "E", look.SECONDS, decimals=0),
        ],
        Query(_grid_of("intensity_grams_per_kwh")),
        Query(_grid_of("intensity_estimated")),
        Query(_grid_of("fallback_level")),
        Query(f"time() - {_grid_of('fetched_timestamp_seconds')}"),
        Query(f"{_grid_of('valid_until_timestamp_seconds')} - time()"),
        w=12, h=7, sort="Intensity", empty="no exporter is scraped",
    )  # fmt: skip


def _providers() -> object:
    by = "grid_zone, provider, signal, basis"
    return table(
        "What each provider says", "Of this moment, used or not. Two that differ much are worth a look.",
        [
            Column("Zone", "grid_zone", width=75),
            Column("Provider", "provider"),
            Column("Signal", "signal", width=85),
            Column("Basis", "basis", width=85),
            Column("Intensity", "A", look.INTENSITY, steps=look.DIRTY, width=110, decimals=0),
            Column("In use", "B", words={"0": ("no", "text"), "1": ("yes", look.GREEN)}, width=70),
        ],
        Query(f"max by ({by}) (wattspan_grid_provider_intensity_grams_per_kwh{{{C}}})"),
        Query(f"max by ({by}) (wattspan_grid_provider_in_use{{{C}}})"),
        w=12, h=7, sort="Zone", descending=False, empty="no exporter is scraped",
    )  # fmt: skip


def _grid() -> list[object]:
    return [
        course("Intensity by zone", "In force; the dashed lines are the thresholds of the alert on a"
               " dirty grid.", look.INTENSITY,
               Query(_grid_of("intensity_grams_per_kwh"), "{{grid_zone}} {{signal}}"),
               Query('max by (grid_zone) (wattspan:threshold{threshold="grid_dirty_grams_per_kwh",'
                     ' grid_zone!=""}) and on (grid_zone) max by (grid_zone)'
                     f" (wattspan_grid_intensity_grams_per_kwh{{{C}}})", "dirty in {{grid_zone}}"),
               Query('max(wattspan:threshold{threshold="grid_dirty_grams_per_kwh", grid_zone=""})', "dirty"),
               w=8, decimals=0, dashed=["/^dirty/"], colours={"/^dirty/": look.RED}),
        course("Intensity by provider", "What each says, used or not.", look.INTENSITY,
               Query("max by (grid_zone, provider)"
                     f" (wattspan_grid_provider_intensity_grams_per_kwh{{{C}}})", "{{grid_zone}}"
                     " {{provider}}"),
               w=8, decimals=0),
        course("Energy by what priced it", "Watts by the source of the intensity; estimated means a"
               " yearly mean or a model.", look.WATT,
               *(Query("sum by (grid_zone, provider)"
                       f' (cluster:wattspan_grid_priced_energy_joules:rate5m{{estimated="{is_so}", {C}}})',
                       f"{{{{grid_zone}}}} {{{{provider}}}}{note}")
                 for is_so, note in (("false", ""), ("true", ", estimated"))),
               w=8, stack=True, empty=NEEDS_RULES),
    ]  # fmt: skip


def _forecast() -> object:
    return bars("Forecast", "Intensity so many hours ahead, by zone.", look.INTENSITY,
                *(Query(f'max by (grid_zone, horizon) (wattspan_grid_forecast_intensity_grams_per_kwh{{'
                        f'horizon="{horizon}", {C}}})', "{{grid_zone}} in {{horizon}}")
                  for horizon in HORIZONS),
                w=10, h=8, steps=look.DIRTY, decimals=0,
                empty="no provider forecasts: see the README, Live figures")  # fmt: skip


def _greenest() -> object:
    by = "grid_zone, duration"
    window = f"max by ({by}) (wattspan_grid_greenest_window_intensity_grams_per_kwh{{{C}}})"
    return table(
        "Greenest windows", "For work of this length, when to begin it; and how much fewer grams that is"
        " than now.",
        [
            Column("Zone", "grid_zone", width=80),
            Column("Length", "duration", width=80),
            Column("Begins", "A", look.IN),
            Column("At (UTC)", "B", look.WHEN, width=165),
            Column("Intensity", "C", look.INTENSITY, steps=look.DIRTY, width=110, decimals=0),
            Column("Less than now", "D", look.RATIO, width=120, decimals=0,
                   steps=((None, "text"), (0.1, look.GREEN))),
        ],
        Query(f"max by ({by}) (wattspan_grid_greenest_window_start_timestamp_seconds{{{C}}}) * 1000"),
        Query(f"max by ({by}) (wattspan_grid_greenest_window_start_timestamp_seconds{{{C}}}) * 1000"),
        Query(window),
        Query(f"1 - {window} / on (grid_zone) group_left ()"
              f" max by (grid_zone) (wattspan_grid_intensity_grams_per_kwh{{{C}}})"),
        w=14, h=8, sort="Intensity", descending=False,
        empty="no provider forecasts: see the README, Live figures",
    )  # fmt: skip


def _of_budgets() -> list[object]:
    return [
        stat("Budgets spent", "Budgets of which nothing is left in their period.", look.COUNT,
             Query(how_many(_of_budget("budget:wattspan_co2e_grams:remaining"), "<= 0")), w=8,
             steps=look.ANY_IS_BAD, alarm=True, empty=NO_BUDGET),
        stat("Fastest burn", "The budget that burns fastest, over the last day: at 1 it lasts exactly for"
             " its period.", look.COUNT, Query(f"max({_of_budget('budget:wattspan_co2e_grams:burn_ratio')})"),
             w=8, steps=look.BURN, alarm=True, decimals=1, empty=NO_BUDGET),
        stat("Forecast", "What the month will have used of its tightest budget, at the pace of the"
             " last three days.", look.RATIO,
             Query(f"max({_of_budget('budget:wattspan_co2e_grams:forecast_ratio')})"), w=8, steps=look.FULL,
             alarm=True, decimals=0, empty=NO_BUDGET),
    ]  # fmt: skip


def _budgets() -> object:
    return table(
        "Budgets", "Operational CO2e. Burn is the pace of the last day over the pace that just lasts;"
        " forecast is what a month will have used.",
        [
            Column("Budget", "budget"),
            Column("Period", "period", width=70),
            Column("Size", "A", look.GRAMS, width=90, decimals=1),
            Column("Used", "B", look.GRAMS, width=90, decimals=1),
            Column("Left", "C", look.GRAMS, width=90, decimals=1, steps=((None, look.RED), (0, "text"))),
            Column("Left of it", "D", look.RATIO, bar=1, width=150, decimals=0),
            Column("Burn", "E", look.TEXT, steps=look.BURN, width=80, decimals=2),
            Column("Forecast", "F", look.RATIO, steps=look.FULL, width=90, decimals=0),
            Column("Ends", "G", look.IN, width=130),
        ],
        Query(_of_budget("wattspan_budget_co2e_grams")),
        Query(_of_budget("budget:wattspan_co2e_grams:consumed")),
        Query(_of_budget("budget:wattspan_co2e_grams:remaining")),
        Query(f"{_of_budget('budget:wattspan_co2e_grams:remaining')}"
              f" / ({_of_budget('wattspan_budget_co2e_grams')} > 0)"),
        Query(_of_budget("budget:wattspan_co2e_grams:burn_ratio")),
        Query(_of_budget("budget:wattspan_co2e_grams:forecast_ratio")),
        Query(f"{_of_budget('wattspan_budget_period_end_timestamp_seconds')} * 1000"),
        w=24, h=7, sort="Left of it", descending=False, empty=NO_BUDGET,
    )  # fmt: skip


def _burn() -> list[object]:
    def burn(window: str, title: str) -> object:
        return course(
            f"Burn over {title}", "Pace over the pace that just lasts for the period; at 1 it is exactly"
            " on budget. The alert wants a long and a short window above its factor.", look.TEXT,
            Query(_of_budget(f"budget:wattspan_co2e_grams:burn_ratio_{window}"), "{{budget}} ({{period}})"),
            w=8, decimals=1, steps=((None, "transparent"), (1, look.RED)), empty=NO_BUDGET,
        )  # fmt: skip

    return [burn("rate1h", "1 hour"), burn("rate6h", "6 hours"), burn("rate1d", "1 day")]


def _footprint() -> list[object]:
    located = f'rate(wattspan_owner_co2e_grams_total{{part="operational", {C}}}{RATE})'
    market = f"rate(wattspan_owner_market_co2e_grams_total{{{C}}}{RATE})"
    return [
        course("Operational beside embodied", "Grams an hour of runs and pods: of their energy, and of"
               " the making of the cards that they hold.", look.GRAMS,
               Query(f"sum by (part) (owner:wattspan_owner_co2e_grams:rate5m{{{C}}}) * {look.S_PER_H}",
                     "{{part}}"),
               w=8, stack=True, colours=look.PARTS, empty=NEEDS_RULES),
        bars("Location beside market based, per hour", "Operational grams an hour now: by the grid of the"
             " place, and by the intensity of your contract. Only of nodes that have both.", look.GRAMS,
             Query(f"sum({located} and on (cluster, instance, {OWNER}) {market}) * {look.S_PER_H}",
                   "location based"),
             Query(f"sum({market}) * {look.S_PER_H}", "market based"),
             w=8, decimals=1, colours=look.BASES, empty="no node has grid.market-intensity"),
        course("Cost per hour, by project", "Electricity of runs and pods, PUE applied, in the currency"
               " that the legend names.", look.MONEY,
               Query("sum by (project, currency)"
                     f" (owner:wattspan_owner_cost:rate5m{{{C}}}) * {look.S_PER_H}",
                     "{{project}}, {{currency}}"),
               w=8, stack=True, empty="no price is set"),
    ]  # fmt: skip


def _owners() -> object:
    operational, embodied = f'part="operational", {C}', f'part="embodied", {C}'
    return table(
        "This month, by namespace and project", "Since the first of the month (UTC). A dash: not"
        " configured, or not known for these cards; market based grams and water are of configured nodes"
        " alone.",
        [
            Column("Namespace", "pod_namespace", width=130),
            Column("Project", "project"),
            Column("Energy", "A", look.KWH, width=110, decimals=2),
            Column("Operational", "B", look.GRAMS, width=110, decimals=1),
            Column("Embodied", "C", look.GRAMS, width=110, decimals=1),
            Column("Market based", "D", look.GRAMS, width=120, decimals=1),
            Column("Water", "E", look.LITRES, width=100, decimals=2),
            Column("Wasted energy", "F", look.KWH, width=125, decimals=2),
        ],
        Query(kwh(this_month("wattspan_owner_energy_joules", OWNER))),
        Query(this_month("wattspan_owner_co2e_grams", OWNER, operational)),
        Query(this_month("wattspan_owner_co2e_grams", OWNER, embodied)),
        Query(this_month("wattspan_owner_market_co2e_grams", OWNER)),
        Query(this_month("wattspan_owner_water_liters", OWNER)),
        Query(kwh(this_month("wattspan_owner_wasted_energy_joules", OWNER))),
        w=16, h=8, sort="Operational", empty="no run and no pod held a GPU",
    )  # fmt: skip


def _money() -> list[object]:
    return [
        table("Cost this month", "By namespace, project and currency, PUE applied.",
              [
                  Column("Namespace", "pod_namespace"),
                  Column("Project", "project"),
                  Column("Currency", "currency", width=85),
                  Column("Cost", "A", look.MONEY, width=100, decimals=2),
              ],
              Query(this_month("wattspan_owner_cost", f"{OWNER}, currency")),
              w=8, sort="Cost", empty="no price is set"),
        course("Price of a kilowatt-hour", "In force, the highest of all nodes, by currency.", look.MONEY,
               Query(f"max by (currency) (wattspan_electricity_price_per_kwh{{{C}}})", "{{currency}}"),
               w=12, h=6, decimals=3, empty="no price is set"),
        bars("Questions to live sources that fail now", "Failed questions an hour over all nodes, by"
             " provider and reason.", look.COUNT,
             Query("sort_desc(sum by (provider, reason)"
                   f" (rate(wattspan_grid_fetch_failures_total{{{C}}}{RATE})) * {look.S_PER_H} > 0)"
                   " or sum by (provider)"
                   f" (rate(wattspan_grid_fetch_failures_total{{{C}}}{RATE})) * 0",
                   "{{provider}} {{reason}}"),
             w=12, h=6, steps=((None, look.GREY), (0, look.GREEN), (0.001, look.RED)), decimals=1,
             empty="no live source is configured"),
    ]  # fmt: skip
