"""The recording rules: figures in, figures out, judged by promtool."""

# ruff: noqa: E501 - figures are rows of a table, read as one.

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml

from tests.alerts.promtool import seconds
from tests.alerts.rule_files import ORDER, RULES, groups, rules
from tests.docs import markdown
from tests.real_parts import need

Expected = tuple[str, str, dict[str, float]]
"""An expression, when, and its series (labels in braces, or empty) with their values."""


@pytest.fixture(autouse=True)
def promtool() -> None:
    need("promtool", shutil.which("promtool") is not None)


def check(
    folder: Path,
    files: Iterable[str],
    series: Mapping[str, str],
    expected: Iterable[Expected],
    *,
    step: str = "1m",
    every: str = "",
    rule_dir: Path = RULES,
    timezone: str = "",
) -> None:
    """Have promtool evaluate rules and compare.

    Args:
        folder: where its file is written.
        files: stems of rule files.
        series: input, one value each `every`.
        expected: what expressions have to give.
        step: time between evaluations.
        every: time between values; `step` if not given.
        rule_dir: where the rule files are.
        timezone: of the process, to show that it does not matter.
    """
    paths = [rule_dir / f"{name}.yaml" for name in (*ORDER, "dcgm", "kepler") if name in set(files)]
    document = {
        "rule_files": [str(path) for path in paths],
        "evaluation_interval": step,
        "group_eval_order": [group["name"] for path in paths for group in groups(path)],
        "tests": [
            {
                "interval": every or step,
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": at,
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in samples.items()
                        ],
                    }
                    for expression, at, samples in expected
                ],
            }
        ],
    }
    path = folder / "recording.yaml"
    path.write_text(yaml.safe_dump(document, width=1000))
    environment = {**os.environ, **({"TZ": timezone} if timezone else {})}
    done = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


OWNER = '{cluster="eu",pod_namespace="team-a",project="nlp",part="operational",basis="lifecycle"}'
REC = "month:wattspan_owner_co2e_grams:increase1h"
THIS_MONTH = f'sum by (month) (sum_over_time({REC}[31d]) and on (month) count_values("month", month()))'


def one_month_rule(folder: Path) -> None:
    """Months of co2e alone, because promtool walks every hour since 1970."""
    [group] = [group for group in groups(RULES / "months.yaml") if group["name"].endswith(".co2e")]
    group["rules"] = [rule for rule in group["rules"] if rule["record"] == REC]
    (folder / "months.yaml").write_text(yaml.safe_dump({"groups": [group]}, width=1000))


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_months_across_their_ends(tmp_path: Path, timezone: str) -> None:
    """An hour belongs to the month (UTC) in which its middle lay, and a month is the sum of its hours."""
    one_month_rule(tmp_path)
    hours = 31 * 24 + 28 * 24 + 31 * 24 + 30 * 24 + 50
    check(
        tmp_path,
        ["months"],
        {f"wattspan_owner_co2e_grams_total{OWNER}": f"0+100x{hours}"},
        [
            # One series with every label of the owner, the month beside them.
            (f'{REC}{{month="1"}}', "2h", {REC + OWNER.replace("}", ',month="1"}'): 100}),
            # The last hour of January is read at its end, when it is February already.
            (f"sum by (month) ({REC})", "744h", {'{month="1"}': 100}),
            (f"sum by (month) ({REC})", "745h", {'{month="2"}': 100}),
            (f'sum by (month) (sum_over_time({REC}{{month="1"}}[31d]))', "744h", {'{month="1"}': 74_400}),
            # This month so far: the last hour of January, nothing of February yet, then its hours alone.
            (THIS_MONTH, "743h", {'{month="1"}': 74_300}),
            (THIS_MONTH, "744h", {}),
            (THIS_MONTH, "745h", {'{month="2"}': 100}),
            (THIS_MONTH, f"{744 + 671}h", {'{month="2"}': 67_100}),
            (THIS_MONTH, f"{744 + 672 + 1}h", {'{month="3"}': 100}),
            # A month of 31 days to its last hour, and one of 30 days, neither with hours of its neighbours.
            (THIS_MONTH, f"{744 + 672 + 743}h", {'{month="3"}': 74_300}),
            (THIS_MONTH, f"{744 + 672 + 744 + 719}h", {'{month="4"}': 71_900}),
        ],
        step="1h",
        rule_dir=tmp_path,
        timezone=timezone,
    )


def test_months_by_the_middle_of_the_hour(tmp_path: Path) -> None:
    """Prometheus evaluates at some minute of the hour; half an hour on either side decides."""
    one_month_rule(tmp_path)
    check(
        tmp_path,
        ["months"],
        {f"wattspan_owner_co2e_grams_total{OWNER}": f"0+10x{746 * 6}"},
        [
            (f"count by (month) ({REC})", f"{744 * 60 + 20}m", {'{month="1"}': 1}),
            (f"count by (month) ({REC})", f"{744 * 60 + 30}m", {'{month="2"}': 1}),
            (f"count by (month) ({REC})", f"{744 * 60 + 40}m", {'{month="2"}': 1}),
        ],
        step="10m",
        rule_dir=tmp_path,
    )


def test_months_in_a_leap_year(tmp_path: Path) -> None:
    """February 1972 has 29 days, and its last hour is its own."""
    one_month_rule(tmp_path)
    february_h = (365 * 2 + 31) * 24
    check(
        tmp_path,
        ["months"],
        {f"wattspan_owner_co2e_grams_total{OWNER}": f"_x{february_h} 100+100x800"},
        [
            (THIS_MONTH, f"{february_h + 28 * 24 + 23}h", {'{month="2"}': (28 * 24 + 23) * 100}),
            (THIS_MONTH, f"{february_h + 29 * 24 + 1}h", {'{month="3"}': 100}),
            (
                f'sum by (month) (sum_over_time({REC}{{month="2"}}[31d]))',
                f"{february_h + 29 * 24 + 1}h",
                {'{month="2"}': 29 * 24 * 100},
            ),
        ],
        step="1h",
        rule_dir=tmp_path,
    )


def test_months_bear_a_reset_and_a_gap(tmp_path: Path) -> None:
    """A counter that starts anew adds what it has since; hours that nobody scraped add nothing."""
    check(
        tmp_path,
        ["months"],
        {
            # Ten hours, then a journal that is lost and starts from 0: no joule twice, none negative.
            'wattspan_node_energy_joules_total{instance="n1"}': "0+60x600 0+60x600",
            # Three hours away.
            'wattspan_node_energy_joules_total{instance="n2"}': "0+60x300 _x180 18000+60x600",
        },
        [
            ('sum_over_time(month:wattspan_node_energy_joules:increase1h{instance="n1"}[20h]) > bool 70000', "20h",
             {'{instance="n1",month="1"}': 1}),
            ('sum_over_time(month:wattspan_node_energy_joules:increase1h{instance="n1"}[20h]) > bool 72000', "20h",
             {'{instance="n1",month="1"}': 0}),
            ('count_over_time(month:wattspan_node_energy_joules:increase1h{instance="n2"}[18h])', "18h",
             {'{instance="n2",month="1"}': 15}),
        ],
        step="1h",
        every="1m",
    )  # fmt: skip


HOURS = re.compile(
    r"sum by \((cluster[\w, ]*)\) \(increase\(wattspan_\w+_total\[1h\]\)\) "
    r'\* on \(\) group_left \(month\) count_values\("month", month\(vector\(time\(\) - 1800\)\)\)'
)
SUMS = re.compile(r"sum by \(cluster[\w, ]*, month\) \(month:wattspan_node_\w+:increase1h\)")
SHARES = "month:wattspan_gpu_attributed_energy_joules:increase1h"


def test_months_keep_their_interval() -> None:
    """One sample for each hour: the groups' interval is their range, and every rule has the same form."""
    hourly = [
        group for group in groups(RULES / "months.yaml") if group["name"].startswith("wattspan.months.")
    ]
    assert len(hourly) == 3
    for group in hourly:
        assert group["interval"] == "1h"
        marker, *hours = group["rules"]
        assert (marker["record"], marker["expr"]) == (
            "month:wattspan_hours:timestamp_seconds",
            "vector(time())",
        )
        assert marker["labels"] == {"of": group["name"].rpartition(".")[2]}
        for rule in hours:
            assert HOURS.fullmatch(rule["expr"]) or SUMS.fullmatch(rule["expr"]) or rule["record"] == SHARES


def test_months_so_far_read_the_marker_of_their_hours() -> None:
    """What the running hour has added counts from the evaluation that recorded the hours beside it."""
    of = {
        rule["record"]: group["name"].rpartition(".")[2]
        for group in groups(RULES / "months.yaml")
        for rule in group["rules"]
    }
    found = 0
    for rule in rules(RULES / "months.yaml"):
        if rule.name.endswith((":month", ":hour")) and "of" not in rule.labels:
            hours = re.findall(r"month:\w+:increase1h", rule.expr) or [f"{REC}"]
            markers = set(re.findall(r'of="(\w+)"', rule.expr)) or {"co2e"}
            assert markers == {of[hours[0]]}, rule.name
            found += 1
    assert found == 12


def running(folder: Path, *records: str) -> Path:
    """A folder of rules, with only those of the running hour: promtool evaluates whole hours each minute, too."""
    rule_dir = folder / "rules"
    rule_dir.mkdir()
    kept = [group for group in groups(RULES / "months.yaml") if group["name"].startswith("wattspan.month.")]
    [so_far] = [group for group in groups(RULES / "months.yaml") if group["name"] == "wattspan.month"]
    so_far["rules"] = [rule for rule in so_far["rules"] if rule["record"] in records]
    for path in RULES.glob("*.yaml"):
        shutil.copy(path, rule_dir)
    (rule_dir / "months.yaml").write_text(yaml.safe_dump({"groups": [*kept, so_far]}, width=1000))
    return rule_dir


def hours_at(minute: int, grams: int, until_h: int, step_m: int = 1, month: str = "1") -> dict[str, str]:
    """What the hourly rules would have recorded at this minute of each hour, and their marker."""
    first, gap = f"_x{minute // step_m} ", f"_x{60 // step_m - 1}"
    times = [minute + 60 * hour for hour in range(until_h)]
    amounts = [grams * minute // 60, *([grams] * (until_h - 1))]
    return {
        'month:wattspan_hours:timestamp_seconds{of="co2e"}': first
        + f" {gap} ".join(f"{60 * at_m}" for at_m in times),
        REC + OWNER.replace("}", f',month="{month}"}}'): first + f" {gap} ".join(map(str, amounts)),
    }


MONTH = "owner:wattspan_owner_co2e_grams:month"
HOUR = "owner:wattspan_owner_co2e_grams:hour"
CONSUMED = "budget:wattspan_co2e_grams:consumed"
REMAINING = "budget:wattspan_co2e_grams:remaining"


def test_a_budget_is_used_within_five_minutes_of_the_first_scrape(tmp_path: Path) -> None:
    """Of whatever period: no hourly rule has spoken yet, and what is used is what was scraped."""
    rule_dir = running(tmp_path, MONTH, HOUR)
    budgets_of = {
        f'wattspan_budget_co2e_grams{{cluster="eu",budget="{period}",project="nlp",period="{period}"}}': "9000x90"
        for period in ("month", "7d", "30d", "90d")
    }
    check(
        tmp_path,
        ["recording", "months", "budgets"],
        {**budgets_of, f"wattspan_owner_co2e_grams_total{OWNER}": "0+60x90"},
        [
            # 300 g after five minutes: the rates of the first minutes are still on their way.
            (f"count({CONSUMED} > 100 < 300)", "5m", {"{}": 4}),
            (f"count({REMAINING} > 8700 < 8900)", "5m", {"{}": 4}),
            # Then never more than three minutes behind.
            *((f"count({CONSUMED} > {60 * (at_m - 3)} <= {60 * at_m})", f"{at_m}m", {"{}": 4})
              for at_m in (10, 30, 59)),
        ],
        rule_dir=rule_dir,
    )  # fmt: skip


def test_the_month_goes_on_across_its_hours(tmp_path: Path) -> None:
    """Whole hours and the running one are what was scraped, no minute twice, and never less than before."""
    rule_dir = running(tmp_path, MONTH, HOUR)
    check(
        tmp_path,
        ["recording", "months"],
        {f"wattspan_owner_co2e_grams_total{OWNER}": "0+10x260", **hours_at(20, 600, 4)},
        [
            (f"count(sum({MONTH}) >= {10 * (at_m - 3)} <= {10 * (at_m + 2)})", f"{at_m}m", {"{}": 1})
            for at_m in (6, 19, 20, 21, 50, 79, 80, 81, 110, 139, 140, 141, 200, 230)
        ]
        + [
            (f"min_over_time(({MONTH} - {MONTH} offset 1m)[200m:1m]) >= bool 0", "210m",
             {OWNER: 1}),
        ],
        rule_dir=rule_dir,
    )  # fmt: skip


def test_the_running_hour_bears_a_reset_and_a_gap(tmp_path: Path) -> None:
    """A journal begun anew adds what it has since; minutes that nobody scraped add nothing."""
    rule_dir = running(tmp_path, MONTH, HOUR)
    anew, away = OWNER, OWNER.replace("nlp", "vision")
    check(
        tmp_path,
        ["recording", "months"],
        {
            f"wattspan_owner_co2e_grams_total{anew}": "0+10x29 0+10x60",
            f"wattspan_owner_co2e_grams_total{away}": "0+10x20 _x19 5000+10x60",
        },
        [
            (f'count({MONTH}{{project="nlp"}} >= 550 <= 600)', "59m", {"{}": 1}),
            # Forty minutes of sixty; the first samples after the gap bring no jump.
            (f'count({MONTH}{{project="vision"}} >= 360 <= 420)', "59m", {"{}": 1}),
        ],
        rule_dir=rule_dir,
    )


@pytest.mark.parametrize(
    ("minute", "of_month", "january", "february"),
    [
        # The hour that ends at 0:20 lies in January for the most part, and so do its last twenty minutes.
        (20, "1", {"743h50m": 743 * 60 + 50, "744h10m": None}, {"744h10m": 0, "744h50m": 30}),
        # The one that ends at 0:40 is February's from its beginning.
        (40, "2", {"743h30m": 743 * 60 + 30, "743h50m": 743 * 60 + 40}, {"744h10m": 30, "744h50m": 70}),
    ],
)
def test_the_running_hour_across_a_months_end(
    tmp_path: Path, minute: int, of_month: str, january: dict[str, int | None], february: dict[str, int]
) -> None:
    """The running hour is counted to the month that its sample will carry: no figure jumps when it is recorded.

    One gram a minute, samples of five minutes to keep the walk from 1970 short.
    """
    rule_dir = running(tmp_path, MONTH, HOUR)
    steps = 746 * 12
    recorded = {f"owner:wattspan_owner_co2e_grams:rate5m{OWNER}": f"0.0166666666667x{steps}"}
    marks = hours_at(minute, 60, 746, step_m=5)
    hours = marks.pop(REC + OWNER.replace("}", ',month="1"}')).split()
    # The samples from the month's end on carry the next month where their middle lies there.
    first_of_february = (744 if of_month == "2" else 745) * 12 + minute // 5
    points: list[str] = []
    for token in hours:
        count = int(token[2:]) if token.startswith("_x") else 1
        points += [("_" if token.startswith("_") else token)] * count
    rec = REC + OWNER.replace("}", ',month="%s"}')
    marks[rec % 1] = " ".join(points[:first_of_february])
    marks[rec % 2] = " ".join(["_"] * first_of_february + points[first_of_february:])
    check(
        tmp_path,
        ["months"],
        {**recorded, **marks},
        [
            # Within the minute or five that a step is.
            (f"abs(sum({MONTH}) - {grams}) <= bool 6", at, {"{}": 1})
            for at, grams in {**january, **february}.items()
            if grams is not None
        ],
        step="5m",
        rule_dir=rule_dir,
    )


def test_windows_divide_by_their_samples() -> None:
    """Grams per second over a window are the sum of its samples by as many as the group's interval makes."""
    intervals = {group["name"]: group["interval"] for group in groups(RULES / "recording.yaml")}
    every_s = seconds(intervals["wattspan.owners"])
    found = 0
    for rule in rules(RULES / "budgets.yaml"):
        if window := re.search(
            r"owner:wattspan_owner_co2e_grams:rate5m\{[^}]*\}\[(\w+)\]\)\) / (\d+)$", rule.expr
        ):
            assert rule.name.endswith(f"rate{window[1]}")
            assert seconds(window[1]) == int(window[2]) * every_s
            found += 1
    assert found == 6


SHAPES = {
    "both": '{budget="b",pod_namespace="team-a",project="nlp",period="%s"}',
    "namespace": '{budget="b",pod_namespace="team-a",period="%s"}',
    "project": '{budget="b",project="nlp",period="%s"}',
    "all": '{budget="b",period="%s"}',
}
OF_SHAPE = {"both": 1, "namespace": 1 + 2, "project": 1 + 4, "all": 1 + 2 + 4}
"""What three owners use, by the shape of the budget: a/nlp 1, a/vision 2, b/nlp 4."""


def budgets(**grams: str) -> dict[str, str]:
    """A budget of each shape and period, told by a hub."""
    return {
        "wattspan_budget_co2e_grams" + (labels % period).replace("}", ',job="hub",instance="hub"}'): values
        for period, values in grams.items()
        for labels in SHAPES.values()
    }


def owners(name: str, values: str, labels: str = "") -> dict[str, str]:
    """Figures of three owners: 1, 2 and 4 times the one given."""
    return {
        f'{name}{{pod_namespace="{namespace}",project="{project}"{labels}}}': values % factor
        for namespace, project, factor in (
            ("team-a", "nlp", 1),
            ("team-a", "vision", 2),
            ("team-b", "nlp", 4),
        )
    }


def test_budgets_by_shape_and_period(tmp_path: Path) -> None:
    """A label that a budget lacks means all of them, each period has its own sum, and no label is lost."""
    of_period = {"month": 1, "sum7d": 10, "sum30d": 100, "sum90d": 1000}
    operational = ',part="operational"'
    series = budgets(month="9000x9", **{"7d": "9000x9", "30d": "9000x9", "90d": "9000x9"})
    for name, factor in of_period.items():
        series |= {
            key: str(float(values) * factor) + "x9"
            for key, values in owners(
                f"owner:wattspan_owner_co2e_grams:{name}", "%d", operational if name == "month" else ""
            ).items()
        }
    consumed, remaining, pace = (
        f"budget:wattspan_co2e_grams:{what}" for what in ("consumed", "remaining", "pace")
    )
    check(
        tmp_path,
        ["budgets"],
        series,
        [
            (consumed, "5m", {
                consumed + labels % period: OF_SHAPE[shape] * factor
                for period, factor in (("month", 1), ("7d", 10), ("30d", 100), ("90d", 1000))
                for shape, labels in SHAPES.items()
            }),
            (remaining, "5m", {
                remaining + labels % period: 9000 - OF_SHAPE[shape] * factor
                for period, factor in (("month", 1), ("7d", 10), ("30d", 100), ("90d", 1000))
                for shape, labels in SHAPES.items()
            }),
            (pace, "5m", {
                pace + labels % period: 9000 / (days * 86400)
                for period, days in (("month", 31), ("7d", 7), ("30d", 30), ("90d", 90))
                for labels in SHAPES.values()
            }),
        ],
    )  # fmt: skip


def test_budgets_without_consumption_are_whole(tmp_path: Path) -> None:
    """Where nobody has emitted, all of the budget is left; with a cluster, others' grams do not count."""
    budget = '{cluster="eu",budget="b",project="nlp",period="30d"}'
    check(
        tmp_path,
        ["budgets"],
        {
            f"wattspan_budget_co2e_grams{budget}": "9000x9",
            'owner:wattspan_owner_co2e_grams:sum30d{cluster="us",project="nlp"}': "4x9",
        },
        [
            (
                "budget:wattspan_co2e_grams:consumed",
                "5m",
                {f"budget:wattspan_co2e_grams:consumed{budget}": 0},
            ),
            (
                "budget:wattspan_co2e_grams:remaining",
                "5m",
                {f"budget:wattspan_co2e_grams:remaining{budget}": 9000},
            ),
        ],
    )


def test_burn_and_forecast(tmp_path: Path) -> None:
    """Burn is rate over pace; what remains lasts so long; the month ends at consumed plus the rest of its days."""
    seconds_of_month = 31 * 86400
    # A pace of 1 g/s; owners of 1, 2 and 4 g/s.
    series = budgets(month=f"{seconds_of_month}x9") | {
        key: f"{values}x9"
        for window in ("1h", "1d", "3d")
        for key, values in owners(f"owner:wattspan_owner_co2e_grams:rate{window}", "%d").items()
    }
    series |= {
        key: f"{values}x9"
        for key, values in owners(
            "owner:wattspan_owner_co2e_grams:month", "%d000", ',part="operational"'
        ).items()
    }
    check(
        tmp_path,
        ["budgets"],
        series,
        [
            (f"budget:wattspan_co2e_grams:{name}", "5m", {
                f"budget:wattspan_co2e_grams:{name}" + labels % "month": OF_SHAPE[shape]
                for shape, labels in SHAPES.items()
            })
            for name in ("burn_ratio", "burn_ratio_rate1h", "burn_ratio_rate3d")
        ]
        + [
            ("budget:wattspan_co2e_grams:remaining_seconds_rate1h", "5m", {
                "budget:wattspan_co2e_grams:remaining_seconds_rate1h" + labels % "month":
                    (seconds_of_month - OF_SHAPE[shape] * 1000) / OF_SHAPE[shape]
                for shape, labels in SHAPES.items()
            }),
            ("budget:wattspan_co2e_grams:forecast_ratio", "5m", {
                "budget:wattspan_co2e_grams:forecast_ratio" + labels % "month":
                    OF_SHAPE[shape] * (1000 + seconds_of_month - 300) / seconds_of_month
                for shape, labels in SHAPES.items()
            }),
        ],
    )  # fmt: skip


def test_month_consumed_from_the_hours(tmp_path: Path) -> None:
    """Consumed is made of the hours of the month, operational ones of every basis, and begins anew with the next."""
    budget = '{budget="b",project="nlp",period="month"}'
    rec = "month:wattspan_owner_co2e_grams:increase1h"
    series = {f"wattspan_budget_co2e_grams{budget}": "9e6x1000"}
    for labels in ('part="operational",basis="lifecycle"', 'part="operational",basis="direct"'):
        series[f'{rec}{{project="nlp",{labels},month="1"}}'] = "_ 10x743 stale"
        series[f'{rec}{{project="nlp",{labels},month="2"}}'] = "_x745 10x500"
    series[f'{rec}{{project="nlp",part="embodied",basis="lifecycle",month="1"}}'] = "_ 999x743 stale"
    rule_dir = running(tmp_path, MONTH, HOUR)
    check(
        tmp_path,
        ["months", "budgets"],
        series,
        [
            (
                "budget:wattspan_co2e_grams:consumed",
                at,
                {f"budget:wattspan_co2e_grams:consumed{budget}": grams},
            )
            for at, grams in (("743h", 2 * 7430), ("744h", 0), ("749h", 2 * 50))
        ],
        step="1h",
        rule_dir=rule_dir,
    )


def test_coverage_sums_to_one(tmp_path: Path) -> None:
    """Measured and attributed, measured and not, and estimated are all of the energy, each once."""
    node = '{instance="n1"}'
    rates = {
        f"wattspan_node_energy_joules_total{node}": "0+540x20",
        f"wattspan_host_estimated_energy_joules_total{node}": "0+60x20",
        'wattspan_gpu_attributed_energy_joules_total{instance="n1",uuid="G",share="run"}': "0+400x20",
        'wattspan_gpu_attributed_energy_joules_total{instance="n1",uuid="G",share="unattributed"}': "0+30x20",
    }
    check(
        tmp_path,
        ["recording"],
        rates,
        [
            ("round(cluster:wattspan_coverage:ratio_rate5m, 0.0001)", "15m", {
                '{coverage="measured"}': 0.85, '{coverage="estimated"}': 0.1, '{coverage="unattributed"}': 0.05}),
        ],
    )  # fmt: skip
    # With no estimate and no GPU all of it is measured.
    check(
        tmp_path,
        ["recording"],
        {f"wattspan_node_energy_joules_total{node}": "0+540x20"},
        [
            ("sum by (coverage) (cluster:wattspan_coverage:ratio_rate5m)", "15m",
             {'{coverage="measured"}': 1, '{coverage="estimated"}': 0}),
        ],
    )  # fmt: skip


def test_joules_per_token_of_runs_and_projects(tmp_path: Path) -> None:
    """Energy of all nodes over tokens that one node tells; a run without tokens is in no project's figure."""
    info = 'wattspan_run_info{{instance="{n}",run_id="{r}",run_name="{r}",project="nlp",group="",framework="",source="api"}}'
    check(
        tmp_path,
        ["recording"],
        {
            **{info.format(n=n, r=r): "1x40" for n, r in (("n1", "r1"), ("n2", "r1"), ("n1", "r2"), ("n1", "r3"))},
            'wattspan_run_energy_joules_total{instance="n1",run_id="r1",component="gpu",attribution="exclusive"}':
                "0+500x40",
            'wattspan_run_energy_joules_total{instance="n2",run_id="r1",component="gpu",attribution="exclusive"}':
                "0+500x40",
            'wattspan_run_energy_joules_total{instance="n1",run_id="r2",component="gpu",attribution="exclusive"}':
                "0+500x40",
            'wattspan_run_energy_joules_total{instance="n1",run_id="r3",component="gpu",attribution="exclusive"}':
                "0+7777x40",
            'wattspan_run_tokens_total{instance="n1",run_id="r1"}': "0+100x40",
            'wattspan_run_tokens_total{instance="n1",run_id="r2"}': "0+200x40",
        },
        [
            ("round(run:wattspan_joules_per_token:ratio_rate15m, 0.001)", "30m",
             {'{run_id="r1"}': 10, '{run_id="r2"}': 2.5}),
            ("round(project:wattspan_joules_per_token:ratio_rate15m, 0.001)", "30m", {'{project="nlp"}': 5}),
        ],
    )  # fmt: skip


def test_what_servers_answer_and_their_pods_use(tmp_path: Path) -> None:
    """Each server's counters by pod under our labels; energy, grams, idling and money of these pods alone."""

    def ours(pod: str) -> str:
        return f'cluster="eu",instance="n1",pod_namespace="serving",pod_name="{pod}",container_name="main"'

    def theirs(pod: str) -> str:
        return f'cluster="eu",namespace="serving",pod="{pod}"'

    use = {
        name: {
            f'wattspan_pod_energy_joules_total{{{ours(name)},component="gpu",attribution="exclusive"}}': "0+18000x20",
            f'wattspan_pod_energy_joules_total{{{ours(name)},component="cpu",attribution="cpu_time"}}': "0+600x20",
            f'wattspan_pod_co2e_grams_total{{{ours(name)},basis="lifecycle"}}': "0+3x20",
            f'wattspan_pod_idle_gpu_seconds_total{{{ours(name)}}}': "0+30x20",
        }
        for name in ("chat-0", "notebook-0")
    }  # fmt: skip
    check(
        tmp_path,
        ["serving"],
        {
            **use["chat-0"],
            **use["notebook-0"],
            'wattspan_electricity_price_per_kwh{cluster="eu",instance="n1",currency="EUR"}': "0.3x20",
            'wattspan_pue_ratio{cluster="eu",instance="n1"}': "1.2x20",
            # Two reasons to finish, two models of one pod: all are its requests. A restart is no answer.
            f'vllm:request_success_total{{{theirs("chat-0")},finished_reason="stop"}}': "0+120x9 0+120x10",
            f'vllm:request_success_total{{{theirs("chat-0")},finished_reason="length"}}': "0+60x20",
            f'vllm:generation_tokens_total{{{theirs("chat-0")}}}': "0+6000x20",
            f'tgi_request_success{{{theirs("tgi-0")}}}': "0+60x20",
            f'tgi_request_generated_tokens_sum{{{theirs("tgi-0")}}}': "0+600x20",
            f'nv_inference_request_success{{{theirs("triton-0")}}}': "0+60x20",
            f'bentoml_service_request_total{{{theirs("bento-0")},http_response_code="200"}}': "0+60x20",
            f'bentoml_service_request_total{{{theirs("bento-0")},http_response_code="500"}}': "0+6000x20",
        },
        [
            ("round(pod:wattspan_served_requests:rate5m, 0.01)", "20m", {
                '{cluster="eu",pod_namespace="serving",pod_name="chat-0",server="vLLM"}': 3,
                **{f'{{cluster="eu",pod_namespace="serving",pod_name="{pod}-0",server="{server}"}}': 1
                   for pod, server in (("tgi", "TGI"), ("triton", "Triton"), ("bento", "BentoML"))},
            }),
            ("round(pod:wattspan_served_tokens:rate5m, 0.01)", "20m", {
                '{cluster="eu",pod_namespace="serving",pod_name="chat-0",server="vLLM"}': 100,
                '{cluster="eu",pod_namespace="serving",pod_name="tgi-0",server="TGI"}': 10,
            }),
            *((f"round(pod:wattspan_served_{what}:rate5m, 0.01)", "20m",
               {'{cluster="eu",instance="n1",pod_namespace="serving",pod_name="chat-0"}': value})
              for what, value in (("energy_joules", 310), ("co2e_grams", 0.05), ("gpus_idle", 0.5))),
            # 310 W for an hour are 0.31 kWh, at 0.30 EUR and a PUE of 1.2.
            ("round(pod:wattspan_served_cost:rate5m * 3600, 0.0001)", "20m",
             {'{cluster="eu",instance="n1",pod_namespace="serving",pod_name="chat-0",currency="EUR"}': 0.1116}),
        ],
    )  # fmt: skip


def test_projected_over_nodes_is_the_contracts(tmp_path: Path) -> None:
    """What all nodes used of a run's budget over the progress that rank 0 tells; none before there is progress."""
    used = "wattspan_run_budget_used_ratio"
    check(
        tmp_path,
        ["recording"],
        {
            f'{used}{{instance="n1",run_id="r1"}}': "0.25x5",
            f'{used}{{instance="n2",run_id="r1"}}': "0.25x5",
            'wattspan_run_progress_ratio{instance="n1",run_id="r1"}': "0.4x5",
            f'{used}{{instance="n1",run_id="r2"}}': "0.25x5",
            'wattspan_run_progress_ratio{instance="n1",run_id="r2"}': "0x5",
        },
        [
            (
                "run:wattspan_budget_projected:ratio",
                "4m",
                {'run:wattspan_budget_projected:ratio{run_id="r1"}': 1.25},
            ),
        ],
    )


def test_a_run_is_in_one_namespace(tmp_path: Path) -> None:
    """A run with pods has their namespace, one without has none, and one over two namespaces breaks nothing."""
    info = 'wattspan_run_info{{instance="n1",run_id="{r}",run_name="x",project="p",group="",framework="",source="api"}}'
    pod = 'wattspan_run_pod_info{{instance="n1",run_id="{r}",pod_namespace="{n}",pod_name="{n}-0"}}'
    check(
        tmp_path,
        ["recording"],
        {info.format(r=r): "1x5" for r in ("r1", "r2", "r3")}
        | {pod.format(r=r, n=n): "1x5" for r, n in (("r1", "a"), ("r3", "a"), ("r3", "b"))},
        [
            ("count by (run_id) (run:wattspan_run:info)", "4m",
             {'{run_id="r1"}': 1, '{run_id="r2"}': 1, '{run_id="r3"}': 1}),
            ('run:wattspan_run:info{run_id!="r3"}', "4m", {
                'run:wattspan_run:info{run_id="r1",run_name="x",project="p",pod_namespace="a"}': 1,
                'run:wattspan_run:info{run_id="r2",run_name="x",project="p"}': 1}),
        ],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("long", "burn", "factor", "lasts"),
    [("1h", 20, 14.4, "2m"), ("6h", 8, 6, "15m"), ("1d", 4, 3, "1h"), ("3d", 1.5, 1.2, "3h")],
)
def test_burn_alert_keeps_its_promise(
    tmp_path: Path, long: str, burn: float, factor: float, lasts: str
) -> None:
    """A burn that begins at zero is told when it has filled its share of the window, and not much earlier.

    The alert promises window x factor / burn, and its `for`.
    """
    promised_m = round((seconds(long) * factor / burn + seconds(lasts)) / 60)
    firing = f'count(ALERTS{{alertname="WattspanCarbonBudgetBurn",alertstate="firing",long="{long}"}}) or vector(0)'
    check(
        tmp_path,
        ["thresholds", "budgets"],
        {
            'wattspan_budget_co2e_grams{budget="b",project="nlp",period="30d"}': f"2592000x{promised_m + 10}",
            'owner:wattspan_owner_co2e_grams:rate5m{pod_namespace="a",project="nlp",part="operational",'
            'basis="lifecycle"}': f"{burn}x{promised_m + 10}",
        },
        [
            (firing, f"{promised_m - 4}m", {"{}": 0}),
            (firing, f"{promised_m + 2}m", {"{}": 1}),
        ],
    )  # fmt: skip


GPU = 'instance="n1",job="wattspan",uuid="GPU-1"'


def test_names_of_dcgm_exporter(tmp_path: Path) -> None:
    """Their names, units and labels from our figures; the energy stays a counter."""
    info = 'wattspan_gpu_info{%s,gpu="0",model="H100",vendor="nvidia",driver_version="570",power_scope="board",power_source="average",mig_mode="off"}'
    labels = (
        '{instance="n1",uuid="GPU-1",UUID="GPU-1",gpu="0",device="nvidia0",model="H100",modelName="H100",'
        'Hostname="n1",hostname="n1",driver_version="570",DCGM_FI_DRIVER_VERSION="570"}'
    )
    check(
        tmp_path,
        ["dcgm"],
        {
            info % GPU: "1x5",
            f'wattspan_gpu_power_watts{{{GPU},gpu="0"}}': "400x5",
            f'wattspan_gpu_energy_joules_total{{{GPU},method="counter"}}': "0+24000x5",
            f'wattspan_gpu_energy_joules_total{{{GPU},method="integrated"}}': "500x5",
            f'wattspan_gpu_utilization_ratio{{{GPU},gpu="0"}}': "0.5x5",
            f'wattspan_gpu_memory_used_bytes{{{GPU},gpu="0"}}': f"{2**30}x5",
            f'wattspan_gpu_memory_total_bytes{{{GPU},gpu="0"}}': f"{80 * 2**30}x5",
            f'wattspan_gpu_temperature_celsius{{{GPU},gpu="0"}}': "60x5",
            f'wattspan_gpu_sm_clock_hertz{{{GPU},gpu="0"}}': "1.98e9x5",
        },
        [
            (f"DCGM_FI_DEV_{name}", "4m", {f"DCGM_FI_DEV_{name}{labels}": value})
            for name, value in (
                ("POWER_USAGE", 400), ("TOTAL_ENERGY_CONSUMPTION", 1000 * (4 * 24000 + 500)), ("GPU_UTIL", 50),
                ("FB_USED", 1024), ("FB_FREE", 79 * 1024), ("GPU_TEMP", 60), ("SM_CLOCK", 1980),
            )
        ],
        rule_dir=RULES / "compat",
    )  # fmt: skip


def test_names_of_kepler(tmp_path: Path) -> None:
    """Their names and labels from our figures, each zone once."""
    info = 'wattspan_gpu_info{%s,gpu="0",model="H100",vendor="nvidia",driver_version="570",power_scope="board",power_source="average",mig_mode="off"}'
    host = 'instance="n1",job="wattspan",component="{}",device="package-0"'
    pod = 'instance="n1",job="wattspan",pod_namespace="team-a",pod_name="p-0",container_name="{}",component="{}",attribution="exclusive"'
    gpu = '{instance="n1",uuid="GPU-1",gpu_uuid="GPU-1",gpu="0",model="H100",gpu_name="H100",vendor="nvidia",node_name="n1"}'
    check(
        tmp_path,
        ["kepler"],
        {
            info % GPU: "1x9",
            f'wattspan_gpu_power_watts{{{GPU},gpu="0"}}': "400x9",
            f'wattspan_gpu_energy_joules_total{{{GPU},method="counter"}}': "0+24000x9",
            f"wattspan_host_energy_joules_total{{{host.format('cpu')}}}": "0+600x9",
            f"wattspan_host_energy_joules_total{{{host.format('dram')}}}": "0+60x9",
            f"wattspan_host_power_watts{{{host.format('cpu')}}}": "10x9",
            f"wattspan_host_power_watts{{{host.format('dram')}}}": "1x9",
            f"wattspan_pod_energy_joules_total{{{pod.format('a', 'gpu')}}}": "0+6000x9",
            f"wattspan_pod_energy_joules_total{{{pod.format('b', 'gpu')}}}": "0+6000x9",
            f"wattspan_pod_energy_joules_total{{{pod.format('a', 'cpu')}}}": "0+300x9",
            'wattspan_platform_power_watts{instance="n1",job="wattspan",sensor="bmc"}': "900x9",
        },
        [
            (name, "8m", {f"{name}{labels}": value for labels, value in series.items()})
            for name, series in {
                "kepler_node_cpu_joules_total": {
                    '{zone="package",path="package-0",node_name="n1"}': 4800,
                    '{zone="dram",path="package-0",node_name="n1"}': 480,
                },
                "kepler_node_cpu_watts": {
                    '{zone="package",path="package-0",node_name="n1"}': 10,
                    '{zone="dram",path="package-0",node_name="n1"}': 1,
                },
                "kepler_node_gpu_watts": {gpu: 400},
                "kepler_node_gpu_joules_total": {gpu: 8 * 24000},
                "kepler_pod_gpu_joules_total": {
                    '{state="running",node_name="n1",pod_namespace="team-a",pod_name="p-0"}': 8 * 12000},
                "kepler_pod_gpu_watts": {
                    '{state="running",node_name="n1",pod_namespace="team-a",pod_name="p-0"}': 200},
                "kepler_pod_cpu_joules_total": {
                    '{state="running",zone="package",node_name="n1",pod_namespace="team-a",pod_name="p-0"}': 2400},
                "kepler_pod_cpu_watts": {
                    '{state="running",zone="package",node_name="n1",pod_namespace="team-a",pod_name="p-0"}': 5},
                "kepler_platform_watts": {'{source="wattspan",node_name="n1",power_control_name="bmc"}': 900},
            }.items()
        ],
        rule_dir=RULES / "compat",
    )  # fmt: skip


def test_a_run_that_has_ended_counts_for_as_long_as_its_range(tmp_path: Path) -> None:
    """Its name is gone after five minutes, and its energy stays with its project: by the rules and by the README."""
    run = 'instance="n1",job="wattspan",run_id="r1"'
    [_, runs] = markdown.blocks((RULES.parents[1] / "README.md").read_text(encoding="utf-8"), "promql")
    of_projects = runs.split("\n\n")[0]
    check(
        tmp_path,
        ["recording"],
        {
            f'wattspan_run_energy_joules_total{{{run},component="gpu",attribution="exclusive"}}': "0+60000x15 stale",
            f"wattspan_run_tokens_total{{{run}}}": "0+600x15 stale",
            f'wattspan_run_info{{{run},run_name="sft",project="nlp"}}': "1x15 stale",
        },
        [
            ("count(project:wattspan_token_energy_joules:rate15m)", "23m", {"{}": 1}),
            ("count(project:wattspan_tokens:rate15m)", "23m", {"{}": 1}),
            (f"({of_projects}) > bool 0.25", "45m", {'{project="nlp"}': 1}),
        ],
    )
