"""Tell stories and write what they yield: ``python -m tests.golden GROUP FOLDER``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.golden.stories import TOLD_TOGETHER


def main(group: int, folder: Path) -> None:
    for story in TOLD_TOGETHER[group]:
        with TemporaryDirectory(prefix="wattspan-golden-") as scratch:
            for name, text in story(Path(scratch)):
                (folder / f"{name}.prom").write_text(text)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
