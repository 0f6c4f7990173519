"""Commands that do next to nothing, for tests of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import chz
import numpy as np
import pytest

from workbench.cli import main
from workbench.command import Command
from workbench.errors import BadInput, ModelError, RunError
from workbench.options import parse


class Colour(Enum):
    RED = 1
    BLUE = 2


class LiveModel:
    """A type that only Python callers can give."""


@chz.chz
class Cut:
    top: int = chz.field(default=5, doc="how many heads", validator=chz.validators.ge(1))
    rule: str = chz.field(default="score", doc="what decides")


def no_words(self: Any, name: str) -> None:
    if self.note == "bad":
        raise BadInput("note=bad is a bad note: write another")


@chz.chz
class Fake:
    model: str | LiveModel = chz.field(doc="name, folder or hub id")
    other: str = chz.field(default="", doc="second thing")
    lengths: tuple[int, ...] = chz.field(default=(256, 512), doc="prompt lengths", validator=chz.validators.typecheck)
    context: int | None = chz.field(default=None, doc="longest prompt")
    limit: int | Literal["auto"] = chz.field(default="auto", doc="limit")
    until: float = chz.field(default=0.5, doc="where to stop", validator=chz.validators.le(1))
    dtype: Literal["float32", "bfloat16"] = chz.field(default="float32", doc="precision")
    fast: bool = chz.field(default=False, doc="hurry")
    kv_heads: int | None = chz.field(default=None, doc="key-value heads")
    out: Path = chz.field(default=Path("runs"), doc="where the run folder goes")
    colour: Colour = chz.field(default=Colour.RED, doc="colour")
    note: str = chz.field(default="", doc="free text", validator=no_words)
    head: Cut = chz.field(default_factory=lambda: Cut(rule="rank"), doc="what to list")


@dataclass(frozen=True)
class Echo:
    facts: dict[str, Any]
    exit_code: int = 0

    def __rich__(self) -> str:
        return "the answer"

    def summary(self) -> dict[str, Any]:
        return self.facts


def run_echo(config: Fake) -> Echo:
    print("a library chatters on stdout")
    return Echo({"config": chz.asdict(config), "nan": float("nan"), "top": [(1, np.int64(2))], "a": np.array([1.5])})


def raising(error: BaseException) -> Any:
    def run(config: Any) -> Echo:
        raise error

    return run


@chz.chz
class Nothing:
    pass


COMMANDS = {
    command.name: command
    for command in (
        Command("scan-heads", "find heads", Fake, run_echo, positional=("model", "other")),
        Command("bad", "exit 2", Nothing, raising(ModelError("no model\n'x': take another"))),
        Command("failed", "exit 1", Nothing, raising(RunError("the disk is full"))),
        Command("bug", "internal error", Nothing, raising(KeyError("oops"))),
        Command("disk", "oserror", Nothing, raising(OSError(28, "No space left on device", "/x"))),
        Command("module", "missing module", Nothing, raising(ModuleNotFoundError("No module named 'x'", name="x"))),
        Command("stop", "ctrl-c", Nothing, raising(KeyboardInterrupt())),
        Command("sick", "bad news", Nothing, lambda config: Echo({"ok": False}, 1)),
    )
}
SCAN = COMMANDS["scan-heads"]


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words, COMMANDS)
    out, err = capsys.readouterr()
    return code, out, err


def config(*words: str) -> Fake:
    return parse(SCAN, words).config
