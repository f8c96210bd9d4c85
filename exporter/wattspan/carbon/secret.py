"""A token or password: from a file, read anew at each use because it may be rotated, or from the
environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from wattspan.errors import FetchError


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is. It is never part of this record's text, and never logged.

    Attributes:
        key: the setting that names its file, for error texts.
        file: where it stands, alone on the first line; None when the variable holds it.
        variable: name of the environment variable that holds it when no file is set.
    """

    key: str
    file: Path | None = None
    variable: str = field(default="", repr=False)

    @property
    def is_set(self) -> bool:
        """Whether there is one, as far as can be told without reading it."""
        return self.file is not None or bool(os.environ.get(self.variable, "").strip())

    def read(self) -> str:
        """The secret.

        Raises:
            FetchError: there is none, or its file cannot be read.
        """
        if self.file is None:
            value = os.environ.get(self.variable, "").strip()
            if not value:
                raise FetchError("refused", f"{self.key}: not set, and neither is {self.variable}")
            return value
        try:
            with self.file.open(encoding="utf-8") as lines:
                value = lines.readline(4096).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a text file"
            raise FetchError("refused", f"{self.key}: {self.file}: {why}") from error
        if not value or not value.isascii() or not value.isprintable():
            raise FetchError("refused", f"{self.key}: {self.file} holds no secret on its first line")
        return value
