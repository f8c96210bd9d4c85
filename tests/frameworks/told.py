"""What a stand-in daemon was told, in words that a test can compare."""

from typing import Any

from tests.client.stand_in import StandIn, phases_of

COUNTS = ("steps", "samples", "tokens")


def story(daemon: StandIn) -> list[str]:
    """Begin, phases and end, in order: ``begin``, ``+epoch 0``, ``-epoch 0``, ``failure OSError``."""
    words = []
    for asked in daemon.asked:
        document = asked.document
        match asked.path.rpartition("/")[2]:
            case "runs":
                words.append("begin")
            case "phases":
                for phase in phases_of(document):
                    sign = "+" if phase["event"] == "begin" else "-"
                    words.append(f"{sign}{phase['name']} {phase.get('index', '')}".rstrip())
            case "end":
                words.append(" ".join(filter(None, (document["result"], document.get("error_type")))))
    return words


def counts(document: dict[str, Any]) -> tuple[int | None, ...]:
    """Steps, samples and tokens of a report of progress."""
    return tuple(document.get(name) for name in COUNTS)


def first_and_last(daemon: StandIn) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """What progress was told from, and how far it came."""
    told = daemon.about("/progress")
    return counts(told[0]), counts(told[-1])
