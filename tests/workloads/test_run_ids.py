"""Names of runs and spans: what strangers' dashboards and every other node rely on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.workloads import run_ids

NOON_NS = 1_790_000_000_000_000_000

ANYTHING = st.text(max_size=300)
"""With control characters and lone surrogates."""


@pytest.mark.parametrize(
    ("key", "node", "ids"),
    [
        (
            ("", "llama-sft-01JD5", 0),
            "node-a",
            "b641e7d2518e39667fb3d3367234428a a3d0bdb7167b9d71 716e3c77dbe98c6d",
        ),
        (
            ("prod-eu", "k8s:nlp:JobSet:sft:1a2b3c4d", 2),
            "gpu-17",
            "2821be844569cfaea81e052aaff3d153 365b7e07c222947d a0f0d97d101cbbfb",
        ),
        (
            ("hpc", "slurm:hpc:12345_7", 0),
            "g001",
            "e7f8974d0b07f78812e3d82d0bb6ca4b e990f5bf69b3df1f fc22e422e23a3665",
        ),
    ],
)
def test_span_ids_are_the_contracts(key: tuple[str, str, int], node: str, ids: str) -> None:
    """The contract's test vectors (trace, run span, node span): every other program computes the same ids."""
    assert [
        run_ids.trace_id(*key),
        run_ids.run_span_id(*key),
        run_ids.node_span_id(*key, node),
    ] == ids.split()


@pytest.mark.parametrize("run_id", ["a", "7", "k8s:nlp:JobSet:sft:1a2b3c4d", "A._:-", "x" * 253])
def test_valid_run_ids(run_id: str) -> None:
    """What the contract's expression takes is valid."""
    assert run_ids.valid(run_id)


@pytest.mark.parametrize(
    "run_id", ["", "-a", ".a", "a/b", "a b", "a\n", "a\0", "\u0661", "\u00e9a", "x" * 254]
)
def test_invalid_run_ids(run_id: str) -> None:
    """Nothing else is: no slash, no line end at the end, no other script's digit, not a byte too many."""
    assert not run_ids.valid(run_id)


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("llama-sft", "llama-sft"),
        ("llama sft/v2", "llama-sft-v2"),
        ("  \u00fcber lauf ", "ber-lauf"),
        ("a\x1b[31mb\u202ec\n", "a-31mbc"),
        ("../../etc", "etc"),
        ("\ud800", ""),
        ("", ""),
    ],
)
def test_clean_gives_what_a_path_and_a_label_can_hold(name: str, run_id: str) -> None:
    """Characters outside the set become dashes, control characters go, and so does a bad beginning."""
    assert run_ids.clean(name) == run_id


@given(ANYTHING)
def test_clean_gives_a_valid_run_id_or_nothing(text: str) -> None:
    """Whatever somebody calls a run, what comes out is valid or empty, and cleaning again changes nothing."""
    cleaned = run_ids.clean(text)
    assert cleaned == "" or run_ids.valid(cleaned)
    assert run_ids.clean(cleaned) == cleaned


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_every_made_id_is_valid(first: str, second: str, third: str, fourth: str) -> None:
    """However long or odd its parts are, a made id is a run id."""
    made = [
        run_ids.kubernetes_id(first, second, third, fourth),
        run_ids.slurm_id(first, second, third),
        run_ids.marker_id("WANDB_RUN_ID", first),
        run_ids.named_id(first, run_ids.ulid(NOON_NS)),
        run_ids.further_id(run_ids.named_id(first, run_ids.ulid(NOON_NS)), 2),
    ]
    assert [run_id for run_id in made if not run_ids.valid(run_id)] == []


def test_ids_by_kind() -> None:
    """Each kind of id has the contract's form."""
    uid = "1a2b3c4d-0000-4000-8000-000000000000"
    assert run_ids.kubernetes_id("nlp", "JobSet", "sft", uid) == "k8s:nlp:JobSet:sft:1a2b3c4d"
    assert run_ids.slurm_id("hpc", "12345", "7") == "slurm:hpc:12345_7"
    assert run_ids.slurm_id("hpc", "12345") == "slurm:hpc:12345"
    assert run_ids.marker_id("WANDB_RUN_ID", "3KX9q2ab") == "wandb_run_id:3kx9q2ab"
    assert run_ids.further_id("llama", 2) == "llama.2"


def test_long_names_keep_what_makes_them_one_of_a_kind() -> None:
    """Where a name is too long it is cut; the uid, the job number and the ULID at its end stay whole."""
    long = "n" * 300
    unique = run_ids.ulid(NOON_NS)
    uid = "1a2b3c4d-0000-4000-8000-000000000000"
    assert run_ids.kubernetes_id("nlp", "JobSet", long, uid).endswith("n:1a2b3c4d")
    assert run_ids.slurm_id(long, "12345", "7").endswith(":12345_7")
    assert run_ids.named_id(long, unique).endswith(f"n-{unique}")
    assert run_ids.further_id("n" * 253, 12).endswith("n.12")


def test_ulid_is_the_specifications() -> None:
    """Time first, then chance, in Crockford's alphabet; the largest one is 7ZZZ..."""
    assert run_ids.ulid(1_469_918_176_385_000_000, bytes(10)) == "01ARYZ6S410000000000000000"
    assert run_ids.ulid(((1 << 48) - 1) * 1_000_000, b"\xff" * 10) == "7" + "Z" * 25


def test_ulids_differ_and_sort_by_time() -> None:
    """Two of one moment are not the same, and a later one sorts after both."""
    first, second, later = run_ids.ulid(NOON_NS), run_ids.ulid(NOON_NS), run_ids.ulid(NOON_NS + 1_000_000)
    assert first != second
    assert max(first, second) < later


@given(ANYTHING)
def test_names_for_people_are_one_safe_line(text: str) -> None:
    """A name is one line of UTF-8 without control characters, and no longer than the limit."""
    name = run_ids.plain(text, limit=50)
    name.encode()
    assert len(name) <= 50
    assert len(name.splitlines()) <= 1
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
    assert "\u202e" not in run_ids.plain("a\u202eb")
    assert run_ids.plain(name, limit=50) == name


def test_names_keep_their_script() -> None:
    """Only what cannot be seen goes; letters of every script stay."""
    assert run_ids.plain(" f\u00fcnf\t\n\u8a13\u7df4 ") == "f\u00fcnf \u8a13\u7df4"
