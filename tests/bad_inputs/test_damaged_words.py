"""Random command lines of real commands: an answer or one clear line, exit code 0, 1 or 2, never an internal error.

What the commands do is replaced by an echo: the grammar of options, their types and their checks are the real ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import chz
import pytest
from fake_commands import Echo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.discovery import commands
from workbench.errors import WorkbenchError
from workbench.options import options_of

FEW, MANY = 200, 6_000


def echo(config: Any) -> Echo:
    """What was understood, for the JSON answer."""
    return Echo({name: str(getattr(config, name)) for name in chz.chz_fields(type(config))})


COMMANDS = {name: replace(command, run=echo) for name, command in commands().items()}
VALUES = st.sampled_from((
    "", " ", ",", ",,", "=", "a=b", "[", "()", "[1,2]", "none", "null", "true", "no", "0", "-0", "1", "-1", "2", "7",
    "100", "1k",
    "1_0", "99M", "9" * 400, "0.5", "-0.5", "1.5", "nan", "inf", "-inf", "1e999", "1e-999", "0x10", "٣", "½", "a,b",
    "256,512",
    "256,x", "auto", "float32", "llama", "planted-copy", "gpt2,llama", "5GB", "-5GB", "0B", "9e99GB", "GB", "../../x",
    "~", "/dev/null", "/",
    "nowhere.json", "x" * 5000, "\x1b[31m", "a\nb", "\t", "é", "\ud800", "{}", "{0}", "%s", "$(true)", "'", '"',
    "L1H2", "0.0,1.1", "0-1",
    "1/2", "5/2", "-1/2", "ioi", "zero", "resample", "default", "full", "duo", "duo,razor", "share:1",
))  # fmt: skip
ODD = st.sampled_from(("--", "-", "-h", "--help", "help", "--version", "version", "--json", "json=true", "json=", "=",
"=x", "--x", "x", "",
                       "config=", "config=nowhere.yaml", "config=.", "config=/dev/null", "--seed", "a b", "\0",
                       "..=1", "1=2"))  # fmt: skip
PLAIN = st.text(max_size=12)


@st.composite
def words(draw: Any) -> list[str]:
    """A command and what may stand behind it."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    keys = sorted(options_of(COMMANDS[name].config)) or ["seed"]
    parts = [draw(st.sampled_from((name,) * 12 + ("scan-head", name.upper(), "")))]
    for _ in range(draw(st.integers(0, 4))):
        key, value = draw(st.sampled_from(keys)), draw(VALUES | PLAIN)
        how = draw(st.sampled_from(("pair",) * 6 + ("dashed", "misspelt", "bare", "odd", "plain")))
        parts.append({
            "pair": f"{key}={value}", "dashed": f"--{key.replace('_', '-')}={value}", "misspelt": f"{key[1:]}={value}",
            "bare": value, "odd": draw(ODD), "plain": draw(PLAIN),
        }[how])  # fmt: skip
    return parts


def survive(examples: int, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """Exit codes of random command lines."""
    codes = []

    @settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(words())
    def each(typed: list[str]) -> None:
        code = main(typed, COMMANDS)
        out, err = capsys.readouterr()
        assert code in (0, 1, 2) and "Traceback" not in err and not err.startswith("internal error"), (typed, err)
        assert not (code and out), (typed, out)
        if code:
            assert len(err.splitlines()) == 1 and len(err) < 2100 and "\x1b" not in err, (typed, err)
        codes.append(code)

    each()
    return codes


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir()), "parsing wrote something"


def test_random_words_are_answered_or_refused_in_a_line(capsys):
    codes = survive(FEW, capsys)
    assert {0, 2} <= set(codes), "both ways must be gone"


@pytest.mark.slow
def test_many_random_words(capsys):
    codes = survive(MANY, capsys)
    assert codes.count(0) > MANY / 50


def test_negative_control_an_internal_error_is_caught(capsys, monkeypatch):
    broken = replace(COMMANDS["models"], run=lambda config: {}["x"])
    monkeypatch.setitem(COMMANDS, "models", broken)
    assert main(["models"], COMMANDS) == 1 and capsys.readouterr().err.startswith("internal error")
    assert not issubclass(KeyError, WorkbenchError)
