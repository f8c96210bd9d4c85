"""A Dockerfile, read and replayed in plain folders: what a builder does, without a container registry.

It knows the instructions that ours has and refuses any other, so that nothing is skipped unseen.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Protocol

KNOWN: Final = (
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "STOPSIGNAL", "USER"),
    "WORKDIR",
)

Instruction = tuple[str, str]


class Inside(Protocol):
    """Runs words in a root."""

    def __call__(self, root: Path, *words: str, environment: dict[str, str]) -> object: ...


@dataclass
class Stage:
    """What a stage came to.

    Args:
        root: its file system.
        base: the image that it began with, as the Dockerfile names it.
        environment: what `ENV` set, on top of what the base has.
        labels: `LABEL`, with arguments filled in.
        user: numeric uid and gid of `USER`; root if there is none.
        entrypoint: the words of `ENTRYPOINT`.
        command: the words of `CMD`.
        stop_signal: the name that `STOPSIGNAL` gives.
        ports: what `EXPOSE` names.
    """

    root: Path
    base: str
    environment: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    user: tuple[int, int] = (0, 0)
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    stop_signal: str = ""
    ports: tuple[int, ...] = ()


def instructions(text: str) -> list[Instruction]:
    """Name and the rest of each instruction, continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        assert name in KNOWN, f"{name} is not an instruction that the replay knows"
        found.append((name, rest.strip()))
    return found


def expanded(text: str, values: Mapping[str, str]) -> str:
    """``${NAME}`` filled in; an unknown name is an error."""
    return re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], text)


def pairs(text: str) -> dict[str, str]:
    """``a=b c="d e"`` of `ENV` and `LABEL`."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def in_context(folder: Path, ignore: Path) -> Iterator[Path]:
    """The files of the build context, relative to it: those that the ``.dockerignore`` lets through.

    It knows the form that ours has: nothing (``*``), then paths let in, then names left out (``**/``).
    """
    lines = [line for line in ignore.read_text().splitlines() if line and not line.startswith("#")]
    let_in = [line[1:] for line in lines if line.startswith("!")]
    left_out = [line[3:] for line in lines if line.startswith("**/")]
    assert lines == ["*", *(f"!{path}" for path in let_in), *(f"**/{name}" for name in left_out)]
    for path in map(Path, let_in):
        below = (folder / path).rglob("*") if (folder / path).is_dir() else [folder / path]
        for file in below:
            found = file.relative_to(folder)
            if file.is_file() and not any(fnmatch(part, name) for part in found.parts for name in left_out):
                yield found


class Replay:
    """Runs the stages of a Dockerfile in roots that already hold their base images.

    Args:
        text: the Dockerfile.
        roots: a folder with the file system of the base image of each stage, in the order of the stages.
        context: the build context, already filtered.
        environment: what a builder's network and proxies would give each `RUN`.
        base_environment: what the base image of each stage sets.
        arguments: ``--build-arg``.
        inside: runs a command in a root with an environment, and raises where it fails.
    """

    def __init__(
        self,
        text: str,
        roots: Sequence[Path],
        context: Path,
        environment: Mapping[str, str],
        base_environment: Mapping[str, str],
        arguments: Mapping[str, str],
        inside: Inside,
    ) -> None:
        self._instructions = instructions(text)
        self._roots = list(roots)
        self._context = context
        self._environment = environment
        self._base_environment = base_environment
        self._given = arguments
        self._inside = inside
        self._global: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}

    def run(self) -> Stage:
        """Replay all of it; gives the last stage."""
        stage: Stage | None = None
        values: dict[str, str] = {}
        for name, rest in self._instructions:
            if name == "FROM":
                image, *alias = rest.split()
                assert alias[:1] in ([], ["AS"]), rest
                stage = Stage(self._roots.pop(0), expanded(image, self._global), dict(self._base_environment))
                self._stages[alias[1] if alias else ""] = stage
                values = {}
            elif stage is None:
                assert name == "ARG", f"{name} before FROM"
                key, _, default = rest.partition("=")
                self._global[key] = self._given.get(key, default)
            elif name == "ARG":
                key, has_default, default = rest.partition("=")
                values[key] = self._given.get(key, default if has_default else self._global.get(key, ""))
            else:
                self._apply(stage, name, rest, values)
        assert stage is not None
        assert not self._roots, "a stage is missing"
        return stage

    def _apply(self, stage: Stage, name: str, rest: str, values: Mapping[str, str]) -> None:
        match name:
            case "RUN":
                self._run(stage, rest, values)
            case "COPY":
                self._copy(stage, expanded(rest, values))
            case "ENV":
                stage.environment |= pairs(rest)
            case "LABEL":
                stage.labels |= pairs(expanded(rest, values))
            case "WORKDIR":
                stage.workdir = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                uid, gid = rest.split(":")
                stage.user = int(uid), int(gid)
            case "EXPOSE":
                stage.ports += (int(rest),)
            case "STOPSIGNAL":
                stage.stop_signal = rest
            case "ENTRYPOINT":
                stage.entrypoint = tuple(json.loads(rest))
            case "CMD":
                stage.command = tuple(json.loads(rest))

    def _run(self, stage: Stage, command: str, values: Mapping[str, str]) -> None:
        assert not command.startswith("--"), command
        words = ("/bin/sh", "-c", 'cd "$0" && exec /bin/sh -c "$1"', stage.workdir, command)
        self._inside(stage.root, *words, environment={**self._environment, **stage.environment, **values})

    def _copy(self, stage: Stage, rest: str) -> None:
        words = shlex.split(rest)
        flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self._stages[flags.pop("from")].root if "from" in flags else self._context
        owner = tuple(map(int, flags.pop("chown", "0:0").split(":")))
        assert not flags, f"COPY with {flags}"
        at = Path(stage.workdir, target)
        for source in sources:
            found = origin / source.lstrip("/")
            into_folder = found.is_file() and (target.endswith("/") or len(sources) > 1)
            to = stage.root / str(at / found.name if into_folder else at).lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(found, to)
            for each in (to, *to.rglob("*")):
                os.chown(each, *owner, follow_symlinks=False)
