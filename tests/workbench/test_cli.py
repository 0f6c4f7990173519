"""The command line: exit codes, what goes to stdout, help, and how commands are found."""

from __future__ import annotations

import json
import shlex

import pytest
from fake_commands import COMMANDS, Echo, Fake, Nothing, say

from workbench.casting import type_name
from workbench.cli import main
from workbench.command import Command
from workbench.discovery import commands
from workbench.invocation import command_line as typed_line
from workbench.options import options_of


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["scan-head"], 2, "error: no command 'scan-head'. Did you mean 'scan-heads'? workbench --help lists them"),
        (["zzz"], 2, "error: no command 'zzz'. workbench --help lists them"),
        (["model=llama"], 2, "error: a command comes first, 'model=llama' is none: workbench --help lists them"),
        (["help", "zzz"], 2, "error: no command 'zzz'. workbench --help lists them"),
        (["bad"], 2, "error: no model 'x': take another"),
        (["failed"], 1, "error: the disk is full"),
        (["disk"], 1, "error: No space left on device: /x"),
        (["module"], 1, "error: No module named 'x': workbench doctor tells how to install what is missing"),
        (["bug"], 1, "internal error: KeyError: 'oops'; run with WORKBENCH_DEBUG=1 for the traceback"),
        (
            ["stop"],
            130,
            "stopped; what a run folder holds is kept, the same command goes on from there: workbench stop",
        ),
    ],
)
def test_exit_codes(capsys, words, code, line):
    assert say(capsys, *words) == (code, "", line + "\n")


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DEBUG", "1")
    for name in ("bug", "failed"):
        code, _, err = say(capsys, name)
        assert code == 1 and "Traceback" in err and "raise error" in err


def test_the_answer_alone_is_on_stdout(capsys):
    code, out, err = say(capsys, "scan-heads", "model=llama")
    assert (code, out) == (0, "the answer\n") and "chatters" in err
    assert say(capsys, "sick")[0] == 1


def test_json_commands_no_terminal(capsys):
    """C1 controls and turned text stand in it as escapes: what is read is the same."""
    hostile = "\x1b[31m\x9b5m\x7f\x85 a\u202eb\u2066c é ü 漢 \xa0\u200b"
    command = Command("echo", "", Nothing, lambda config: Echo({hostile: [hostile]}))
    assert main(["echo", "json=true"], {"echo": command}) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == {hostile: [hostile]} and "é ü 漢 \xa0" in out
    assert not set(out) & set("\x1b\x9b\x7f\x85\u202e\u2066"), ascii(out)


@pytest.mark.parametrize("flag", ["json=true", "--json", "--json=true", "json=1"])
def test_json_is_strict(capsys, flag):
    code, out, err = say(capsys, "scan-heads", "llama", flag, "out=x")
    facts = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert code == 0 and facts["nan"] is None and facts["top"] == [[1, 2]] and facts["a"] == [1.5]
    assert facts["config"]["out"] == "x" and "chatters" in err


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview(capsys, words):
    code, out, err = say(capsys, *words)
    assert code == 0 and err == ""
    for command in COMMANDS.values():
        assert command.name in out and command.help in out


@pytest.mark.parametrize("words", [["scan-heads", "--help"], ["scan-heads", "help"], ["help", "scan-heads"],
                                   ["scan-heads", "lenghts=1", "-h"]])  # fmt: skip
def test_manual_shows_name_type_default_and_meaning(capsys, words):
    code, out, err = say(capsys, *words)
    assert code == 0 and err == ""
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    for key, option in options_of(Fake).items():
        assert option.doc in lines[key] and type_name(option.kind) in lines[key]
    assert "required" in lines["model"] and "256,512" in lines["lengths"] and "float32|bfloat16" in lines["dtype"]
    assert "rank" in lines["head.rule"] and "runs" in lines["out"] and "lambda" not in out
    assert "workbench scan-heads MODEL OTHER json=true" in out or "workbench scan-heads MODEL" in out


def test_version(capsys):
    import workbench

    assert say(capsys, "--version") == (0, f"workbench {workbench.__version__}\n", "")


def test_typed_line_is_known_while_the_command_runs():
    seen = []
    spy = Command("spy", "", Nothing, lambda _: seen.append(typed_line()) or Echo({}))
    assert main(["spy", "--json"], {"spy": spy}) == 0
    assert [shlex.split(line) for line in seen] == [["workbench", "spy", "--json"]] and typed_line() is None


def test_discovery_finds_every_module_and_refuses_doubles(tmp_path, monkeypatch):
    package = tmp_path / "fakes_for_discovery"
    package.mkdir()
    body = "import chz\nfrom workbench.command import Command\n@chz.chz\nclass C:\n    pass\n"
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(body + "COMMAND = Command('one', '', C, print)\n")
    (package / "helper.py").write_text("COMMAND = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(commands(("fakes_for_discovery",))) == ["one"]
    (package / "two.py").write_text(body + "COMMAND = Command('one', '', C, print)\n")
    with pytest.raises(RuntimeError, match=r"two and .*one both define 'one'"):
        commands(("fakes_for_discovery",))
    assert {"models", "doctor", "completion"} <= commands().keys()


def test_every_installed_command_can_be_helped_and_lists_documented_options(capsys):
    for command in commands().values():
        assert main([command.name, "--help"]) == 0
        assert command.help in capsys.readouterr().out
        for option in options_of(command.config).values():
            assert option.doc, f"{command.name} {option.key} has no doc="
            assert set(command.positional) <= options_of(command.config).keys()
