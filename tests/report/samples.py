"""Records of runs as the journal has them, for reports."""

import math
from dataclasses import replace
from typing import Any

from wattspan.report import Report, report_of
from wattspan.runs import Calibration, Factor, Point, Progress, Run, RunRecord, RunTotals
from wattspan.units import NS_PER_S

BEGAN_WALL_NS = 1_790_856_000 * NS_PER_S  # 2026-10-01 12:00:00 UTC
HOUR_NS = 3600 * NS_PER_S
MADE_WALL_NS = BEGAN_WALL_NS + 9 * HOUR_NS

GPUS = {f"GPU-{n}a1b2c3d-0000-4000-8000-00000000000{n}": "NVIDIA H100 80GB HBM3" for n in range(8)}
ONE_GPU = dict(list(GPUS.items())[:1])


def training() -> RunRecord:
    """Eight GPUs for six hours, evaluations in between, on a grid that gets cleaner after noon."""
    points = []
    co2e_g, energy_uj = 0.0, dict.fromkeys(GPUS, 0)
    for n in range(1, 181):
        evaluating = n % 45 > 38
        power_w = {
            uuid: (210 if evaluating else 640) + 12 * gpu + 18 * math.sin(n / 3 + gpu)
            for gpu, uuid in enumerate(GPUS)
        }
        intensity = 320 - 110 * math.sin(math.pi * n / 180)
        for uuid, watts in power_w.items():
            energy_uj[uuid] += int(watts * 120 * 1_000_000)
        co2e_g += sum(power_w.values()) * 120 / 3_600_000 * intensity * 1.2
        points.append(
            Point(
                BEGAN_WALL_NS + n * 120 * NS_PER_S,
                {uuid: int(watts * 1_000_000) for uuid, watts in power_w.items()},
                round(intensity, 1),
                co2e_g,
            )
        )
    gpu_uj = sum(energy_uj.values())
    return RunRecord(
        run=Run(
            "k8s:nlp:JobSet:llama-sft:1a2b3c4d",
            name="llama-sft",
            project="nlp",
            group="sweep-7",
            framework="transformers",
            source="kubernetes",
            namespace="nlp",
            nodes_expected=1,
            budget_co2e_g=12_000.0,
        ),
        node="gpu-17",
        cluster="prod-eu",
        began_wall_ns=BEGAN_WALL_NS,
        totals=RunTotals(
            energy_uj={
                ("gpu", "exclusive"): gpu_uj,
                ("cpu", "cpu_time"): gpu_uj // 14,
                ("dram", "cpu_time"): gpu_uj // 40,
            },
            co2e_g=co2e_g * (1 + 1 / 14 + 1 / 40),
            cost=9.87,
            gpu_ns=8 * 6 * HOUR_NS,
            idle_gpu_ns=3 * HOUR_NS,
            utilization_ns=int(8 * 6 * HOUR_NS * 0.87),
            gpu_energy_uj=energy_uj,
            embodied_g=223.4,
            market_g=0.0,
            water_l=7.2,
        ),
        progress=Progress(
            steps=10_000,
            samples=640_000,
            tokens=327_680_000,
            total_steps=10_000,
            loss=1.8734,
            repeated_steps=120,
        ),
        ended_wall_ns=BEGAN_WALL_NS + 6 * HOUR_NS,
        result="success",
        gpus=GPUS,
        grid_zone="DE",
        basis="lifecycle",
        providers=("carbonintensity", "static"),
        estimated=True,
        pue=1.2,
        currency="EUR",
        points=tuple(points),
        factors=factors_of(gpu_uj + gpu_uj // 14 + gpu_uj // 40, co2e_g * (1 + 1 / 14 + 1 / 40)),
        calibrations={
            uuid: Calibration(1.032, 0.008, "LMG671 at the 12 V rails, our laboratory, 2026-05-11")
            for uuid in list(GPUS)[:2]
        },
        pue_configured=True,
        embodied_without=(),
        earlier_co2e_g=0.0,
    )


def factors_of(energy_uj: int, co2e_g: float) -> tuple[Factor, ...]:
    """Six hours, each with a figure of its own: two measured, two forecast, one held, one from the table.

    Args:
        energy_uj: of all of them.
        co2e_g: likewise.
    """
    factors = []
    weights = (1.3, 1.1, 0.9, 0.8, 0.9, 1.0)
    for hour, weight in enumerate(weights):
        began = BEGAN_WALL_NS + hour * HOUR_NS
        live = hour < 5
        part_uj = energy_uj // 6 if hour else energy_uj - 5 * (energy_uj // 6)
        part_g = co2e_g * weight / sum(weights)
        # The fifth figure was valid for the first half of its hour.
        over = began + (HOUR_NS // 2 if hour == 4 else HOUR_NS)
        factors.append(
            Factor(
                began_wall_ns=began,
                ended_wall_ns=began + HOUR_NS,
                energy_uj=part_uj,
                co2e_g=part_g,
                g_per_kwh=part_g / 1.2 / (part_uj / 3_600_000_000_000),
                pue=1.2,
                grid_zone="GB",
                provider="carbonintensity" if live else "static",
                signal="average",
                basis="lifecycle",
                estimated=hour >= 2,
                origin="by hand",
                valid_from_wall_ns=began if live else None,
                valid_until_wall_ns=over if live else None,
                fetched_wall_ns=began if live else None,
            )
        )
    return tuple(factors)


def bare() -> RunRecord:
    """A run of which next to nothing is known: no energy, no price, no progress, not ended."""
    return RunRecord(
        run=Run("sft", rank_zero=True, nodes_expected=1),
        node="laptop",
        cluster="",
        began_wall_ns=BEGAN_WALL_NS,
        totals=RunTotals(),
    )


def simple(**changes: Any) -> RunRecord:
    """Two hours on one GPU at 500 W, under 400 g/kWh: 1 kWh and 400 g, with whatever the test changes."""
    record = RunRecord(
        run=Run("sft", nodes_expected=1),
        node="node-a",
        cluster="",
        began_wall_ns=BEGAN_WALL_NS,
        totals=RunTotals(
            energy_uj={("gpu", "exclusive"): 3_600_000_000_000},
            co2e_g=400.0,
            gpu_ns=2 * HOUR_NS,
            idle_gpu_ns=HOUR_NS // 2,
            utilization_ns=HOUR_NS,
            gpu_energy_uj=dict.fromkeys(ONE_GPU, 3_600_000_000_000),
        ),
        progress=Progress(steps=1000, samples=4000, tokens=8_000_000),
        ended_wall_ns=BEGAN_WALL_NS + 2 * HOUR_NS,
        result="success",
        gpus=ONE_GPU,
        grid_zone="FR",
        basis="lifecycle",
        providers=("static",),
        estimated=True,
    )
    return replace(record, **changes)


def reported(record: RunRecord) -> Report:
    """A report of it, made nine hours after it began."""
    return report_of(record, [record.run.attempt], MADE_WALL_NS, "1.2.3")
