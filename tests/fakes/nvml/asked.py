"""The real pynvml in a process of its own: a test asks it one expression at a time, each on its own thread.

Run as a script it is the child; imported it is the test's end.
In an expression `nvml` is pynvml, `gpu(i)` a handle by index, `kept` a dict that lasts.
"""

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class CodeError(Exception):
    """NVML answered with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class AskedPynvml:
    """A child process with pynvml.

    Args:
        environment: of the child; `FakeNvml.environment` makes it find the fake.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._asked = 0
        self._answers: dict[int, tuple[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Some test leaves a call hanging on purpose, and only the kernel can end that.
        self._child.kill()
        self._child.communicate()

    def ask(self, expression: str) -> Any:
        """The value of an expression, which must be a literal.

        Raises:
            CodeError: NVML's answer was an error.
            RuntimeError: anything else went wrong in the child.
        """
        return self.answer(self.ask_later(expression))

    def code(self, expression: str) -> int:
        """NVML's return code: 0 for success."""
        try:
            self.ask(f"bool({expression})")
        except CodeError as error:
            return error.code
        return 0

    def ask_later(self, expression: str) -> int:
        """Begin, and get a ticket for `answer`."""
        assert self._child.stdin is not None
        self._asked += 1
        self._child.stdin.write(f"{self._asked} {expression}\n")
        self._child.stdin.flush()
        return self._asked

    def answer(self, ticket: int) -> Any:
        """Wait for what `ask_later` began."""
        assert self._child.stdout is not None
        while ticket not in self._answers:
            line = self._child.stdout.readline()
            if not line:
                raise RuntimeError("the child is gone")
            number, kind, value = ast.literal_eval(line)
            self._answers[number] = (kind, value)
        kind, value = self._answers.pop(ticket)
        if kind == "code":
            raise CodeError(value)
        if kind == "error":
            raise RuntimeError(value)
        return value


def _serve() -> None:
    import pynvml  # noqa: PLC0415 - the test's end must not load it

    writing = threading.Lock()
    names = {"nvml": pynvml, "gpu": pynvml.nvmlDeviceGetHandleByIndex, "kept": {}, "os": os}

    def reply(number: int, expression: str) -> None:
        try:
            answer = (number, "value", ast.literal_eval(repr(eval(expression, names))))
        except pynvml.NVMLError as error:
            answer = (number, "code", error.value)  # type: ignore[attr-defined]
        except Exception as error:
            answer = (number, "error", f"{expression}: {error!r}")
        with writing:
            print(repr(answer), flush=True)

    for line in sys.stdin:
        number, expression = line.split(" ", 1)
        threading.Thread(target=reply, args=(int(number), expression.strip()), daemon=True).start()


if __name__ == "__main__":
    _serve()
