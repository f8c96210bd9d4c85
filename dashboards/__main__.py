"""``python -m dashboards [--check]``: write the JSON, or compare it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards import carbon, exporter, fleet, node, run, serving

FOLDER: Final = Path(__file__).parent
BOARDS: Final = (fleet, node, run, carbon, serving, exporter)


def built() -> dict[str, str]:
    """The text of each file, by name."""
    return {f"{board.uid}.json": _text(board) for board in (module.build() for module in BOARDS)}


def _text(board: dashboard.Dashboard) -> str:
    return json.dumps(board, cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """0, or 1 where a file is not as built."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    differ = 0
    for name, text in built().items():
        path = FOLDER / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        differ += 1
        if not check:
            path.write_text(text, "utf-8")
        sys.stdout.write(f"{name} {'differs from what is built' if check else 'is written'}\n")
    return int(check and differ > 0)


if __name__ == "__main__":
    sys.exit(main())
