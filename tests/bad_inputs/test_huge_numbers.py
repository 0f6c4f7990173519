"""Whole numbers that nobody means: a line in no time, whatever the option, however they come; memory that runs out, too."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from workbench.casting import LARGEST, NotThat, conform, whole_number
from workbench.cli import main
from workbench.discovery import commands
from workbench.errors import BadInput
from workbench.option_values import MOST
from workbench.options import options_of, parse

NEEDED = {"export": "x format=y", "compare": "x y", "merge": "x", "train-reference": "out=x", "chair": "x coco=y"}
COUNTED = [
    (name, key)
    for name, command in commands().items()
    for key, option in options_of(command.config).items()
    if "int" in str(option.kind)
]


@pytest.mark.parametrize(("name", "key"), COUNTED)
def test_every_whole_number_has_an_end(name, key):
    needed = NEEDED.get(name, "heads=1.1" if name == "repair-heads" else "").split()
    for text in (str(LARGEST + 1), "9" * 5000, f"-{'9' * 39}", "9000000000000000M"):
        with pytest.raises(
            BadInput, match=f"^{key}: .*(is beyond 9,007,199,254,740,992|digits, which no number here has)"
        ):
            parse(commands()[name], [*needed, f"{key}={text}"])
    if key != "seed" and name != "merge":  # whose rows are bound by the command that it ends
        with pytest.raises(BadInput, match=f"^{key}=|give at most"):
            parse(commands()[name], [*needed, f"{key}={MOST + 1}"])


def test_numbers_up_to_the_end_are_taken():
    assert whole_number(str(LARGEST)) == conform(LARGEST, int) == LARGEST == -whole_number(f"-{LARGEST}")
    assert conform([LARGEST], tuple[int, ...]) == (LARGEST,)
    for value, kind in ((LARGEST + 1, int), (-LARGEST - 1, int | None), ([10**30], tuple[int, ...])):
        with pytest.raises(NotThat, match="beyond|is not"):
            conform(value, kind)
    config: Any = parse(commands()["scan-heads"], [f"seed={LARGEST}", f"rounds={MOST}", "lengths=64,128"]).config
    assert (config.seed, config.rounds, config.lengths) == (LARGEST, MOST, (64, 128))


def test_files_of_options_are_held_to_the_same(tmp_path, capsys):
    for key, value, said in (
        ("seed", 2**60, "is beyond 9,007,199,254,740,992"),
        ("lengths", [2**60], "is not int,int"),
    ):
        (tmp_path / "c.json").write_text(json.dumps({key: value}))
        assert main(["scan-heads", f"config={tmp_path / 'c.json'}"]) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 4 TiB"), RuntimeError("can't allocate memory: 4 TiB")]
)
def test_memory_that_runs_out_is_one_line(error, capsys):
    def work(config: Any) -> Any:
        raise error

    import torch  # noqa: F401

    assert main(["models"], {"models": replace(commands()["models"], run=work)}) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: memory ran out (") and "4 TiB" in said and said.count("\n") == 1
