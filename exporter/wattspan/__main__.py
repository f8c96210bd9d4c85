"""``python -m wattspan`` is ``wattspan``."""

from wattspan.cli import main

raise SystemExit(main())
