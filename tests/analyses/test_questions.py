"""Run folders are found by their question: a default command asks today what it asked when folders were made."""

from __future__ import annotations

import hashlib

import pytest

from workbench.discovery import commands
from workbench.jsonable import canonical
from workbench.model_options import ModelOptions
from workbench.options import options_of, parse

ASKED = {
    "atlas": "e814d4e9",
    "calibrate": "27b7624e",
    "choose-cut": "d0c29783",
    "fit-windows": "b17432cc",
    "repair-heads": "d7b5c45e",
    "scan-heads": "116911d9",
    "scan-sinks": "ad362cf7",
    "scan-visual": "c79f0448",
    "simulate": "adb07fc0",
    "trace-circuit": "56b11a31",
}
"""Digest of the question of each command with its defaults; 26 November 2026."""
WORDS = {"repair-heads": ["heads=3.1,2.0"], "scan-sinks": ["bos=true"]}
"""What a scan settles before it asks is said: texts of bundled models begin with BOS."""


@pytest.mark.parametrize("name", ASKED)
def test_a_default_command_finds_its_old_folders(name):
    config = parse(commands()[name], WORDS.get(name, [])).config
    text = canonical(config.question_asked())
    assert hashlib.sha256(text.encode()).hexdigest()[:8] == ASKED[name]
    last, every = type(config).LAST, list(options_of(type(config)))
    tail = [key for key in every if key in last]
    assert tail == [key for key in last if key in tail] == every[-len(tail) :]


def test_every_command_that_computes_on_a_model_is_among_them():
    on_models = {name for name, command in commands().items() if issubclass(command.config, ModelOptions)}
    assert on_models == set(ASKED)
