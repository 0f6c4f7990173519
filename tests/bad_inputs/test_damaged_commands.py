"""Real commands on damaged files: an answer or one clear line, never an internal error, nothing outside of `out=`."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from mutations import of_files
from readers import READERS

from workbench.cli import main

FEW, MANY = 3, 150
CUT = "threshold=.3 kv_heads=2 query_heads=4 layers=3 unscored=full"
EXPORTS = [f"export given format={name} out=o {CUT}" for name in ("duo-attention", "mask-mod", "minference")]
COMMANDS = {
    "a whole record of scores": ["compare given given", *EXPORTS, "export given format=headvis out=o"],
    "a folder of scores": ["compare given given", *EXPORTS, "export given format=scores-json out=o"],
    "format duo-attention": ["compare given given", f"export given format=lu-kv context=4096 out=o {CUT}"],
    "format head-windows": ["export given format=head-windows out=o"],
    "an atlas": ["export given format=headvis out=o"],
    "captions and COCO": ["chair given/c.jsonl coco=given/instances.json"],
    "a run of a circuit": ["compare given given transfer=false draws=99 resamples=99 halvings=5"],
}
OWN = {"an atlas": {"scores.json": b'{"0-0": [0.5], "0-1": [0.25]}'}}
"""Files that a command needs beside those of the reader, and that stay sound."""


def survive(name: str, home: Path, examples: int, capsys: pytest.CaptureFixture[str]) -> Counter[int]:
    """How often each exit code came."""
    codes: Counter[int] = Counter()

    @settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(files=of_files(READERS[name].files()))
    def each(files: dict[str, bytes]) -> None:
        for words in COMMANDS[name]:
            for place in home.iterdir():
                shutil.rmtree(place)
            for file, data in {**OWN.get(name, {}), **files}.items():
                (home / "given" / file).parent.mkdir(parents=True, exist_ok=True)
                (home / "given" / file).write_bytes(data)
            code = main(words.split())
            out, err = capsys.readouterr()
            codes[code] += 1
            assert code in (0, 1, 2) and "internal error" not in err and "Traceback" not in err, err
            assert {p.name for p in home.iterdir()} <= {"given", "o"} and (code == 0) == bool(out.strip())

    each()
    return codes


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder that the commands are typed in."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("name", [name for name in COMMANDS if "circuit" not in name])  # that one needs torch
def test_commands_on_damaged_files_answer_or_refuse_in_a_line(name, home, capsys):
    survive(name, home, FEW, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_many_damaged_files_given_to_commands(name, home, capsys):
    codes = survive(name, home, MANY, capsys)
    assert codes[0] and codes[2], codes
