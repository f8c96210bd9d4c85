"""What making the hardware emitted, by the time for which it is held."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.embodied import YEAR_NS, Embodied, embodied_grams, embodied_of
from wattspan.units import NS_PER_S

HOUR_NS = 3600 * NS_PER_S
H100, A100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA H200"

grams = st.floats(0, 1e8)
times_ns = st.integers(0, 30 * YEAR_NS)
hosts = st.none() | grams
years = st.integers(1, 20).map(lambda count: count * YEAR_NS)


def of(gpu_g: float, host_g: float | None = None, lifetime_ns: int = 4 * YEAR_NS) -> Embodied:
    """One figure for every GPU."""
    return Embodied({None: gpu_g}, host_g, lifetime_ns)


def test_the_example_of_the_standard() -> None:
    """SCI: 1,000 kg that live four years, held whole for an hour, are 28.5 g.

    M = TE x (TiR / EL) x (RR / ToR) = 1,000,000 g x 1 h / 35,064 h x 1 (SPEC.md v1.1, ISO/IEC 21031:2024).
    """
    held = of(1_000_000.0).grams("any", HOUR_NS, 1)
    assert held is not None
    assert round(held, 1) == 28.5


@given(grams, hosts, times_ns, st.integers(0, 100), years, st.integers(1, 16))
def test_it_is_linear_in_time(
    gpu_g: float, host_g: float | None, gpu_ns: int, times: int, lifetime_ns: int, gpus: int
) -> None:
    """Held n times as long it is n times as much, and for its whole life it is all of it."""
    embodied = of(gpu_g, host_g, lifetime_ns)
    once, often = embodied.grams("any", gpu_ns, gpus), embodied.grams("any", gpu_ns * times, gpus)
    assert once is not None
    assert often is not None
    assert math.isclose(often, once * times, rel_tol=1e-9, abs_tol=1e-12)
    whole = embodied.grams("any", lifetime_ns, gpus)
    assert whole is not None
    assert math.isclose(whole, gpu_g + (host_g or 0.0) / gpus, rel_tol=1e-9)


@given(grams, hosts, st.lists(times_ns, max_size=8), st.integers(1, 16))
def test_shares_sum_to_the_whole(gpu_g: float, host_g: float | None, shares_ns: list[int], gpus: int) -> None:
    """However a GPU's time is divided among holders, together they answer for what one alone would."""
    embodied = of(gpu_g, host_g)
    parts = [embodied.grams("any", share_ns, gpus) for share_ns in shares_ns]
    whole = embodied.grams("any", sum(shares_ns), gpus)
    assert whole is not None
    assert math.isclose(math.fsum(part or 0.0 for part in parts), whole, rel_tol=1e-9, abs_tol=1e-12)


@given(grams, grams, times_ns, st.integers(1, 16))
def test_a_full_node_answers_for_its_whole_host(gpu_g: float, host_g: float, gpu_ns: int, gpus: int) -> None:
    """All GPUs of a node held together carry all GPUs and the host once, whatever their number."""
    each = of(gpu_g, host_g).grams("any", gpu_ns, gpus)
    assert each is not None
    expected = (gpu_g * gpus + host_g) * gpu_ns / (4 * YEAR_NS)
    assert math.isclose(each * gpus, expected, rel_tol=1e-9, abs_tol=1e-12)


def test_the_table_knows_some_models() -> None:
    """Grams by the driver's name, and None for a card that nobody has published."""
    assert embodied_grams(H100) == 164_000
    assert embodied_grams(A100) == 127_600
    assert embodied_grams(H200) is None


def test_of_a_node_with_known_and_unknown_cards() -> None:
    """Known cards have grams, an unknown one has none: nothing stands in for it."""
    embodied = embodied_of([H100, H200], None, None, 4.0)
    assert embodied is not None
    assert dict(embodied.gpu_g) == {H100: 164_000}
    assert embodied.grams(H100, 4 * YEAR_NS, 8) == pytest.approx(164_000)
    assert embodied.grams(H200, 4 * YEAR_NS, 8) is None


def test_nothing_known_is_none() -> None:
    """Without a figure for any card there is no embodied carbon to tell of, host or not."""
    assert embodied_of([H200], None, None, 4.0) is None
    assert embodied_of([H200], None, 1500.0, 4.0) is None
    assert embodied_of([], None, None, 4.0) is None


def test_the_operators_figure_goes_before_the_table() -> None:
    """A configured figure holds for every model, also for those that the table has."""
    embodied = embodied_of([H100], 200.0, None, 5.0)
    assert embodied is not None
    assert embodied.grams(H100, 5 * YEAR_NS, 8) == pytest.approx(200_000)
    assert embodied.grams(H200, 5 * YEAR_NS, 8) == pytest.approx(200_000)
    later = embodied_of([], 200.0, None, 5.0)
    assert later == embodied


def test_a_host_is_counted_only_where_it_is_configured() -> None:
    """There is no default host; with one it is divided among the node's GPUs."""
    without, with_host = embodied_of([H100], None, None, 4.0), embodied_of([H100], None, 1600.0, 4.0)
    assert without is not None
    assert with_host is not None
    assert without.grams(H100, 4 * YEAR_NS, 8) == pytest.approx(164_000)
    assert with_host.grams(H100, 4 * YEAR_NS, 8) == pytest.approx(164_000 + 200_000)


def test_a_host_of_nothing_is_a_host() -> None:
    """Zero kilograms are a figure, unlike none."""
    embodied = embodied_of([H100], None, 0.0, 4.0)
    assert embodied is not None
    assert embodied.host_g == 0
