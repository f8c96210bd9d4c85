"""``wattspan audit [RUN]``: how each gram came about, and whether anything was changed since."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from wattspan import __version__
from wattspan.cli.report import attempt_number, attempts_of, chosen
from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.log import escaped

if TYPE_CHECKING:
    from wattspan.journal.chain_of_runs import Verdict
    from wattspan.journal.history import History
    from wattspan.report.audit import Audit
    from wattspan.runs import Factor, RunRecord

NAME: Final = "audit"
HELP: Final = "Show how each gram of a run came about, and whether a record of this node was changed since."
USAGE: Final = "audit [RUN] [--attempt N] [--all] [--format text|json] [flags]"

SHOWN_AT_EACH_END: Final = 10
"""Factors that are printed of the first and of the last ones; `--all` prints those in between too."""

WRONG_SHOWN: Final = 20
"""Runs that do not add up and are named."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Which run, and how to tell of it."""
    parser.add_argument(
        "run_id",
        nargs="?",
        metavar="RUN",
        help="Its id, or its name, which means the newest of that name. Default: the journal as a whole.",
    )
    parser.add_argument("--attempt", type=attempt_number, metavar="N", help="Default: the last one.")
    parser.add_argument("--all", action="store_true", help="Print every factor, however many there are.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Read the journal beside the daemon that writes it. 1 when something does not add up or fit."""
    from wattspan.journal.history import History

    history = History(loaded.config.state_dir)
    if args.run_id is None:
        return _whole(history, args.format)
    attempts = attempts_of(history, args.run_id)
    return _one(history, chosen(attempts, args.attempt, loaded.config.node_name), args)


def _one(history: "History", record: "RunRecord", args: argparse.Namespace) -> int:
    from wattspan.report import audit

    entries = history.entries(record.run.run_id)
    found = audit.audit_of(record, entries, history.revision(record), history.verdict())
    if args.format == "json":
        print(json.dumps(audit.document(found, time.time_ns(), __version__), indent=2))
    else:
        _print_run(found, every=args.all)
    return 0 if found.sound else 1


def _whole(history: "History", form: str) -> int:
    """The chain, and the sums of every run that has ended."""
    from wattspan.report import audit
    from wattspan.report.quantities import rfc3339

    verdict = history.verdict()
    checked, wrong = 0, []
    for record in history.ended():
        checked += 1
        if not (audit.is_traceable(record) and all(check.sound for check in audit.checks_of(record))):
            wrong.append((record.run.run_id, record.run.attempt, record.node))
    if form == "json":
        names = ("run_id", "attempt", "node")
        document = {
            "schema": audit.SCHEMA,
            "made_at": rfc3339(time.time_ns()),
            "wattspan_version": __version__,
            "sound": verdict.sound and not wrong,
            "runs": {
                "checked": checked,
                "wrong": [dict(zip(names, key, strict=True)) for key in wrong],
            },
            "chain": audit.chain_document(verdict),
        }
        print(json.dumps(document, indent=2))
    else:
        rows = [("sums", f"{checked} closed runs computed again, {len(wrong)} do not add up")]
        for run_id, attempt, node in wrong[:WRONG_SHOWN]:
            rows.append(("does not add up", f"{run_id}, attempt {attempt}, on {node}"))
        if len(wrong) > WRONG_SHOWN:
            rows.append(("", f"and {len(wrong) - WRONG_SHOWN} more"))
        print_table([*rows, *_chain_rows(verdict)])
        _print_findings(verdict)
    return 0 if verdict.sound and not wrong else 1


def _print_run(found: "Audit", *, every: bool) -> None:
    from wattspan.report import quantities

    record = found.record
    until = "" if record.ended_wall_ns is None else f" to {quantities.moment(record.ended_wall_ns)}"
    rows = [
        ("run", record.run.run_id),
        ("attempt", f"{record.run.attempt}, on {record.node}"),
        ("time", f"{quantities.moment(record.began_wall_ns)}{until}"),
    ]
    print_table(rows)
    if record.factors:
        print("\nOperational CO2e: energy x intensity x PUE = grams")
        print_table(_factor_rows(record.factors, every=every))
        print()
        print_table(_source_rows(record.factors))
    print("\nThe rest of the record")
    print_table(_other_rows(found))
    if found.checks:
        print("\nSums computed again")
        print_table(_check_rows(found))
    if found.remarks:
        print()
        for remark in found.remarks:
            print(escaped(remark))
    print("\nThe chain of closed runs")
    entry = found.entry
    own = "none" if entry is None else f"{entry.sequence} ({entry.kind}), record {entry.record_hash}"
    print_table([("entry", own), *_chain_rows(found.verdict)])
    _print_findings(found.verdict)
    print(f"\n{'Everything adds up.' if found.sound else 'NOT everything adds up.'}")


def _factor_rows(factors: "tuple[Factor, ...]", *, every: bool) -> Iterator[tuple[str, ...]]:
    from wattspan.report.audit import co2e_g
    from wattspan.units import UJ_PER_KWH

    yield "FROM", "UNTIL", "KWH", "G/KWH", "PUE", "GRAMS", "SOURCE", "VALID", "FETCHED", ""
    numbers = _source_numbers(factors)
    hidden = 0 if every else max(0, len(factors) - 2 * SHOWN_AT_EACH_END)
    for index, factor in enumerate(factors):
        if hidden and SHOWN_AT_EACH_END <= index < SHOWN_AT_EACH_END + hidden:
            if index == SHOWN_AT_EACH_END:
                rest = factors[index : index + hidden]
                kwh = sum(each.energy_uj for each in rest) / UJ_PER_KWH
                grams = sum(each.co2e_g for each in rest)
                yield (f"... {hidden} more (--all)", "", f"{kwh:.6g}", "", "", f"{grams:.6g}", *[""] * 4)
            continue
        again = co2e_g(factor)
        wrong = "" if abs(again - factor.co2e_g) <= 1e-6 + 1e-9 * abs(again) else f"NOT {again:.9g}"
        mixed = f"mean of {factor.figures} figures" if factor.figures > 1 else ""
        yield (
            _time(factor.began_wall_ns),
            _time(factor.ended_wall_ns),
            f"{factor.energy_uj / UJ_PER_KWH:.6g}",
            f"{factor.g_per_kwh:.6g}",
            f"{factor.pue:g}",
            f"{factor.co2e_g:.6g}",
            f"[{numbers[_source(factor)]}]",
            f"{_time(factor.valid_from_wall_ns)} to {_time(factor.valid_until_wall_ns)}"
            if factor.valid_from_wall_ns is not None or factor.valid_until_wall_ns is not None
            else "always",
            _time(factor.fetched_wall_ns),
            wrong or mixed,
        )


def _source(factor: "Factor") -> tuple[str, ...]:
    estimated = "estimated" if factor.estimated else "not estimated"
    return (
        factor.provider or "not kept",
        factor.grid_zone or "-",
        f"{factor.signal} {factor.basis}".strip() or "-",
        estimated,
        factor.origin or "-",
    )


def _source_numbers(factors: "tuple[Factor, ...]") -> dict[tuple[str, ...], int]:
    return {source: number for number, source in enumerate(dict.fromkeys(map(_source, factors)), 1)}


def _source_rows(factors: "tuple[Factor, ...]") -> Iterator[tuple[str, ...]]:
    yield "SOURCE", "PROVIDER", "ZONE", "MEANING", "", "ORIGIN"
    for source, number in _source_numbers(factors).items():
        yield (f"[{number}]", *source)


def _other_rows(found: "Audit") -> Iterator[tuple[str, str]]:
    from wattspan.report import quantities
    from wattspan.report.audit import embodied_g_per_gpu_hour
    from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH

    record, totals, revision = found.record, found.record.totals, found.revision
    energy_uj = sum(totals.energy_uj.values())
    yield "energy", f"{energy_uj / UJ_PER_J:.6f} J"
    yield "energy without CO2e", f"{totals.unpriced_uj / UJ_PER_J:.6f} J (no intensity was known)"
    yield "operational CO2e", f"{totals.co2e_g:.9g} g"
    if record.factors:
        changed = f"{revision.revised} of {len(record.factors)} factors; counters never change"
        yield "with figures revised since", f"{revision.co2e_g:.9g} g ({changed})"
    per_hour = embodied_g_per_gpu_hour(record)
    if totals.embodied_g is not None:
        held = quantities.gpu_time(totals.gpu_ns / NS_PER_S)
        rate = "" if per_hour is None else f" = {held} x {per_hour:.6g} g for each GPU hour"
        yield "embodied CO2e", f"{totals.embodied_g:.9g} g{rate}"
        models = ", ".join(sorted(set(record.gpus.values()))) or "none"
        yield "hardware", f"{len(record.gpus)} GPUs: {models}"
    if totals.market_g is not None:
        rate = f" = {totals.market_g / (energy_uj / UJ_PER_KWH):.6g} g/kWh, PUE included" if energy_uj else ""
        yield "CO2e by contract", f"{totals.market_g:.9g} g{rate}"
    if totals.water_l is not None:
        rate = f" = {totals.water_l / (energy_uj / UJ_PER_KWH):.6g} l/kWh" if energy_uj else ""
        yield "water", f"{totals.water_l:.9g} l{rate}"
    for uuid, calibration in record.calibrations.items():
        gain = f"gain {calibration.gain:g}, ±{quantities.percent(calibration.uncertainty_ratio)}"
        yield f"calibration of {uuid}", f"{gain}: {calibration.provenance}"


def _check_rows(found: "Audit") -> Iterator[tuple[str, ...]]:
    for check in found.checks:
        if check.sound:
            yield check.what, "fine", ""
        else:
            yield (
                check.what,
                "NOT",
                f"told {check.told:.12g} {check.unit}, found {check.found:.12g} {check.unit}",
            )


def _chain_rows(verdict: "Verdict") -> Iterator[tuple[str, str]]:
    yield "entries", str(verdict.entries)
    yield "records", f"{verdict.records} as they were entered, {verdict.removed} let go of by retention"
    yield "lineage", verdict.lineage
    yield "head", verdict.head or "none yet"
    yield "verdict", "whole" if verdict.sound else f"{verdict.findings_count} findings"


def _print_findings(verdict: "Verdict") -> None:
    for finding in verdict.findings:
        print(escaped(f"{finding.what}: {finding.where}: {finding.detail}"))
    if verdict.findings_count > len(verdict.findings):
        print(f"and {verdict.findings_count - len(verdict.findings)} more")
    print(
        "Whoever may write the whole journal can write a chain that fits. "
        "Keep the head elsewhere: it is logged when a run closes."
    )


def _time(wall_ns: int | None) -> str:
    from wattspan.report import quantities

    return "-" if wall_ns is None else quantities.moment(wall_ns).removesuffix(" UTC")
