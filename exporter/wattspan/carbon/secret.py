"""A token or password: from a file, read anew at each use because it may be rotated, or from the
environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wattspan.errors import FetchError

MAX_CHARACTERS: Final = 4096
"""The longest tokens in use, JWTs, have some 2000."""


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
            where = self.variable
        else:
            try:
                with self.file.open(encoding="utf-8-sig") as lines:
                    value = lines.readline(MAX_CHARACTERS + 1).strip()
            except OSError as error:
                raise FetchError("refused", f"{self.key}: {self.file}: {error.strerror}") from error
            except UnicodeDecodeError:  # it would bring along what it could not read
                raise FetchError("refused", f"{self.key}: {self.file}: not a text file") from None
            if not value:
                raise FetchError("refused", f"{self.key}: {self.file}: nothing on its first line")
            where = str(self.file)
        # A line break would let it write headers of its own; anything else of this kind is a wrong file.
        if not value.isascii() or not value.isprintable() or len(value) > MAX_CHARACTERS:
            raise FetchError("refused", f"{self.key}: {where}: no secret, but something else")
        return value
