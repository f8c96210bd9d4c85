"""Software Carbon Intensity, and who priced what."""

from dataclasses import replace

import pytest

from tests.report.samples import BEGAN_WALL_NS, HOUR_NS, bare, reported, simple, training
from wattspan.report.figures import Missing
from wattspan.report.provenance import provenance_of, providers_of, signals_of
from wattspan.report.sci import UNITS, Sci, Unit, known, sci_of
from wattspan.runs import Progress, Run, RunRecord

KWH = 3_600_000_000_000


def whole(**changes: object) -> RunRecord:
    """1 kWh, PUE 1.5, 400 g/kWh and 30 g embodied."""
    totals = replace(simple().totals, co2e_g=600.0, embodied_g=30.0, market_g=0.0)
    record = simple(totals=totals, pue=1.5, pue_configured=True, embodied_without=())
    return replace(record, **changes)  # type: ignore[arg-type]


def sci(record: RunRecord, unit: Unit) -> Sci:
    """That is there."""
    found = sci_of(record, unit)
    assert isinstance(found, Sci)
    return found


@pytest.mark.parametrize(
    ("unit", "units"), [("run", 1), ("step", 1000), ("sample", 4000), ("token", 8_000_000)]
)
def test_sci_is_the_standards(unit: Unit, units: int) -> None:
    """SCI = (E x I + M) / R, with PUE in E, location-based whatever the contracts say."""
    found = sci(whole(), unit)
    assert (found.energy_kwh, found.intensity_grams_per_kwh, found.embodied_grams) == (1.5, 400, 30)
    assert found.operational_grams == pytest.approx(found.energy_kwh * found.intensity_grams_per_kwh)
    assert found.units == units
    assert found.grams_per_unit == pytest.approx((1.5 * 400 + 30) / units)
    assert (found.conforms, found.missing) == (True, ())
    assert "PUE 1.5" in found.boundary
    assert "location-based average intensity (lifecycle basis)" in found.methodology


def test_sci_of_the_standards_own_example() -> None:
    """Embodied of a machine of 1,000 kg over 4 years for 1 h is 28.5 g and goes in undivided."""
    record = whole(totals=replace(whole().totals, embodied_g=1_000_000 / (4 * 365.25 * 24)))
    found = sci(record, "run")
    assert found.grams_per_unit - found.operational_grams == pytest.approx(28.5, abs=0.05)


@pytest.mark.parametrize(
    ("record", "unit", "said"),
    [
        (whole(totals=replace(whole().totals, embodied_g=None)), "step", "M: what making"),
        (whole(totals=replace(whole().totals, unpriced_uj=KWH // 2)), "step", "I: a part of the energy"),
        (whole(run=Run("sft", nodes_expected=4)), "run", "E: the run has 4 nodes"),
        (whole(run=Run("sft", nodes_expected=None)), "run", "E: how many nodes"),
        (whole(pue=1.0, pue_configured=False), "step", "E: PUE is not set (grid.pue)"),
        (whole(pue=1.0, pue_configured=None), "step", "E: whether a PUE was set was not kept"),
        (whole(embodied_without=("host",)), "step", "M: the host is not in it (embodied.host-kg)"),
        (whole(embodied_without=("L4",)), "step", "M: the L4 is not in it (embodied.gpu-kg)"),
        (whole(embodied_without=None), "step", "M: whether the host is in it was not kept"),
    ],
)
def test_without_a_term_it_is_not_called_sci(record: RunRecord, unit: Unit, said: str) -> None:
    """Where a term is missing the figure is operational only, and says which."""
    found = sci(record, unit)
    assert not found.conforms
    assert any(term.startswith(said) for term in found.missing)
    report = reported(record)
    assert any(statement.topic == "operational only, not SCI" for statement in report.statements)


def test_pue_of_one_is_one_when_somebody_has_set_it() -> None:
    """A PUE of 1 that is the operator's is a PUE; without one the boundary says so."""
    assert sci(whole(pue=1.0), "step").conforms
    assert "PUE 1;" in sci(whole(pue=1.0), "step").boundary
    assert "no PUE;" in sci(whole(pue=1.0, pue_configured=False), "step").boundary
    assert sci(whole(pue_configured=None), "step").conforms, "1.5 is nobody's default"


def test_operational_only_has_no_embodied_grams() -> None:
    """A missing term is not taken for 0 silently: the figure holds the operational grams alone."""
    found = sci(whole(totals=replace(whole().totals, embodied_g=None)), "run")
    assert (found.grams_per_unit, found.embodied_grams) == (600, None)


@pytest.mark.parametrize(
    ("record", "unit", "said"),
    [
        (whole(progress=Progress()), "step", "the run told none"),
        (whole(run=Run("sft", nodes_expected=4)), "token", "that of all 4 nodes"),
        (bare(), "run", "no energy"),
        (
            whole(totals=replace(whole().totals, co2e_g=0.0, unpriced_uj=KWH)),
            "run",
            "no carbon intensity was known",
        ),
    ],
)
def test_without_energy_intensity_or_unit_there_is_none(record: RunRecord, unit: Unit, said: str) -> None:
    """Nothing is divided by what is not known, nor made of what was not measured."""
    found = sci_of(record, unit)
    assert isinstance(found, Missing)
    assert said in found.reason


def test_all_known_units_are_told() -> None:
    """Each unit with an R has its figure; a run that told nothing has its own."""
    assert [found.unit for found in known(whole())] == list(UNITS)
    assert [found.unit for found in known(whole(progress=Progress()))] == ["run"]
    assert known(bare()) == ()


def test_who_priced_what() -> None:
    """Energy is put together by provider and kind, its shares sum to the priced energy, the most first."""
    record = training()
    first, second, third = provenance_of(record)
    assert (first.provider, first.estimated, first.figures) == ("carbonintensity", True, 3)
    assert (second.provider, second.estimated, second.figures) == ("carbonintensity", False, 2)
    assert (third.provider, third.estimated, third.held_ratio) == ("static", True, 0.0)
    assert first.energy_ratio == pytest.approx(0.5)
    parts = (first, second, third)
    assert sum(each.energy_joules for each in parts) * 1e6 == pytest.approx(
        sum(record.totals.energy_uj.values())
    )
    assert sum(each.co2e_grams for each in parts) == pytest.approx(record.totals.co2e_g)
    assert signals_of(record) == ("average",)
    assert (provenance_of(simple()), signals_of(simple())) == ((), ())


def test_held_is_what_was_priced_after_a_figures_end() -> None:
    """Half an hour after its end is half of an hour's energy; all of it where the stretch began later."""
    (factor,) = training().factors[4:5]
    (held,) = provenance_of(simple(factors=(factor,)))
    assert held.held_ratio == pytest.approx(0.5)
    late = replace(factor, valid_until_wall_ns=BEGAN_WALL_NS)
    assert provenance_of(simple(factors=(late,)))[0].held_ratio == 1.0
    moment = replace(late, began_wall_ns=late.ended_wall_ns)
    assert provenance_of(simple(factors=(moment,)))[0].held_ratio == 1.0
    on_time = replace(factor, valid_until_wall_ns=factor.ended_wall_ns + HOUR_NS)
    assert provenance_of(simple(factors=(on_time,)))[0].held_ratio == 0.0


def test_everybody_who_priced_is_named_once() -> None:
    """The record's providers and those of its factors, without a figure that was not kept."""
    factors = (*training().factors, replace(training().factors[0], provider=""))
    assert providers_of(simple(factors=factors)) == ("static", "carbonintensity")
