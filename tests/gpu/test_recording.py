"""The recording of a real card, proven without one: a recording of the fake plays the same."""

import itertools
from pathlib import Path

import pytest

from tests.devices.nvidia_process import cards, metering
from tests.fakes.nvml import load_scenario
from tests.gpu.recording import refresh_ms, scenario_name, scenario_toml


@pytest.mark.parametrize("generation", ["h100", "gh200", "ga100"])
def test_a_recorded_card_plays_again(tmp_path: Path, generation: str) -> None:
    """What was recorded of a card shows the same facts, power and energy when the fake replays it."""
    readings = []
    with metering(cards(generation), tmp_path) as (fake, source):
        for _ in itertools.repeat(None, 200):
            fake.advance(0.01)
            source.pass_time(0.01)
            readings += source.read_gpus()
    gpu = readings[-1].gpu
    every_ms = refresh_ms(readings)
    assert every_ms == 100

    path = tmp_path / f"{scenario_name(gpu)}.toml"
    path.write_text(scenario_toml(readings, every_ms))
    with metering(load_scenario(path), tmp_path) as (fake, source):
        fake.advance(1.0)
        [reading] = source.read_gpus()
        assert reading.gpu.model == gpu.model
        assert reading.gpu.power_scope == gpu.power_scope
        assert reading.gpu.power_source == gpu.power_source
        assert reading.power_instant_uw == 200_000_000
        assert reading.energy_uj == (readings[0].energy_uj or 0) + 200_000_000
