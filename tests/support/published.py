"""Score files and gates that others published, from the shared folder; tests skip where it is absent."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from workbench.heads import HeadScores
from workbench.scores_io import read_scores

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FILES = ("llama-2-7b-80k", "Mistral-7B-v0.2-hf", "Qwen1.5-14B")
GATES = ("Llama-2-7B-32K-Instruct", "Mistral-7B-Instruct-v0.2")


def path(*parts: str) -> Path:
    """A file below shared/data, or a skipped test."""
    place = SHARED.joinpath("data", *parts)
    if not place.exists():
        pytest.skip(f"no shared data: {place} is absent (WORKBENCH_SHARED names the folder)")
    return place


def score_file(name: str) -> Path:
    """A published score file."""
    return path("head_scores", f"{name}.json")


def gate_folder(name: str) -> Path:
    """A published DuoAttention pattern."""
    return path("duo_attn_patterns", name)


@cache
def _read(place: Path) -> HeadScores:
    return read_scores(place)


def scores(name: str) -> HeadScores:
    """The scores of a published file, read once."""
    return _read(score_file(name))


def gates(name: str) -> HeadScores:
    """The gates of a published pattern, read once."""
    return _read(gate_folder(name))
