"""Words become a filled config, or one line that says what is wrong; config files lie beneath what is typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from fake_commands import SCAN, Colour, Cut, LiveModel, config, say

from workbench.casting import NotThat, cast, conform, whole_number
from workbench.errors import BadInput
from workbench.options import command_line

GOOD = [
    (["model=llama"], {"model": "llama", "lengths": (256, 512), "context": None}),
    (["llama"], {"model": "llama"}),
    (["llama", "b"], {"model": "llama", "other": "b"}),
    (["other=b", "llama"], {"model": "llama", "other": "b"}),
    (["runs/until=1/x", "until=1"], {"model": "runs/until=1/x", "until": 1.0}),
    (["model=a=b"], {"model": "a=b"}),
    (["model=a", "context=128k"], {"context": 131072}),
    (["model=a", "context=1M"], {"context": 1048576}),
    (["model=a", "context=none"], {"context": None}),
    (["model=a", "lengths=256,512,1k"], {"lengths": (256, 512, 1024)}),
    (["model=a", "lengths=[256, 512]"], {"lengths": (256, 512)}),
    (["model=a", "lengths=256,"], {"lengths": (256,)}),
    (["model=a", "lengths="], {"lengths": ()}),
    (["model=a", "limit=auto"], {"limit": "auto"}),
    (["model=a", "limit=2k"], {"limit": 2048}),
    (["model=a", "until=1e-3"], {"until": 0.001}),
    (["model=a", "--until=0.25", "--kv-heads=4"], {"until": 0.25, "kv_heads": 4}),
    (["model=a", "fast=yes", "dtype=bfloat16"], {"fast": True, "dtype": "bfloat16"}),
    (["model=a", "colour=BLUE", "out=/x/y"], {"colour": Colour.BLUE, "out": Path("/x/y")}),
    (["model=a", "head.top=20"], {"head": Cut(top=20, rule="rank")}),
    (["model=a"], {"head": Cut(top=5, rule="rank")}),
]


@pytest.mark.parametrize(("words", "expected"), GOOD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_good_arguments(words, expected):
    filled = config(*words)
    assert {name: getattr(filled, name) for name in expected} == expected
    for name, value in expected.items():
        assert type(getattr(filled, name)) is type(value)


BAD = [
    (["model=a", "lenghts=1"], r"no option 'lenghts'. Did you mean 'lengths'\?"),
    (["model=a", "top=1"], r"no option 'top'. Did you mean 'head.top'\?"),
    (["model=a", "head.tops=1"], r"Did you mean 'head.top'\?"),
    (["model=a", "head=x"], "head has options of its own: head.top=, head.rule="),
    (["model=a", "lengths=256,x"], r"lengths: 'x' is not a whole number \(lengths takes int,int,…\)"),
    (["model=a", "lengths=1.5"], "'1.5' is not a whole number"),
    (["model=a", "context=12kk"], r"context: '12kk' is not a whole number \(context takes int\|none\)"),
    (["model=a", "limit=aut"], r"limit takes int\|auto"),
    (["model=a", "until=x"], "until: 'x' is not a number"),
    (["model=a", "until=nan"], "'nan' is not a finite number"),
    (["model=a", "until=2"], "^error: Expected until to be less or equal to 1, got 2.0$"),
    (["model=a", "head.top=0"], "^error: Expected top to be greater or equal to 1, got 0$"),
    (["model=a", "fast=maybe"], "'maybe' is neither true nor false"),
    (["model=a", "dtype=flaot32"], r"'flaot32' is none of float32, bfloat16. Did you mean 'float32'\?"),
    (["model=a", "colour=GREEN"], "'GREEN' is none of RED, BLUE"),
    (["model=a", "note=bad"], "^error: note=bad is a bad note: write another$"),
    ([], r"scan-heads needs model= \(name, folder or hub id\); see workbench scan-heads --help"),
    (["--context", "5"], "use key=value: context=5"),
    (["--kv-heads", "5"], "use key=value: kv_heads=5"),
    (["--fast"], "use key=value: fast=true"),
    (["--lenghts", "5"], r"use key=value: lenghts=5 Did you mean 'lengths'\?"),
    (["model", "llama"], "use key=value: model=llama"),
    (["a", "b", "c"], "'c' is not an option of scan-heads: options are written key=value"),
    (["a", "model=b"], r"model is given twice \(model=a and model=b\)"),
    (["until=1", "until=1"], "until is given twice"),
    (["model=a", "json=perhaps"], "json: 'perhaps' is neither true nor false"),
    (["model=a", "config=/nowhere.json"], "config=/nowhere.json: cannot read it"),
    (["model=a", "config=/etc"], "config=/etc: cannot read it"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_arguments_are_one_line_and_exit_2(capsys, words, message):
    code, out, err = say(capsys, "scan-heads", *words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err and "polymorphic" not in err
    assert re.search(message, err.strip()), err


def test_negative_control_a_second_positional_goes_to_its_own_place():
    with pytest.raises(BadInput, match="given twice"):
        config("a", "b", "other=c")


YAML = "model: b\nlengths: [256, 1k]\nuntil: 1\nhead:\n  top: 9\nfast: true\ncontext: null\nkv_heads: 4\n"


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_config_files_lie_beneath_what_is_typed(tmp_path, suffix):
    yaml = pytest.importorskip("yaml")
    file = tmp_path / f"c.{suffix}"
    file.write_text(YAML if suffix == "yaml" else json.dumps(yaml.safe_load(YAML)))
    filled = config(f"config={file}", "until=0.25")
    assert (filled.model, filled.lengths, filled.until, filled.head) == (
        "b",
        (256, 1024),
        0.25,
        Cut(top=9, rule="rank"),
    )
    assert filled.fast is True and filled.context is None and filled.kv_heads == 4
    assert config("llama", f"config={file}").model == "llama"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "modle: x", r"no option 'modle' in .*c.yaml. Did you mean 'model'\?"),
        ("c.yaml", "model: 5", r"model in .*: 5 is not text\|LiveModel"),
        ("c.yaml", "model: x\nfast: 1", "fast in .*: 1 is not true|false"),
        ("c.yaml", "model: x\nkv_heads: true", r"kv_heads in .*: True is not int\|none"),
        ("c.yaml", "model: x\nlengths: [1, x]", "lengths in .*: 'x' is not a whole number"),
        ("c.yaml", "model: x\nuntil: .nan", "until"),
        ("c.yaml", "model: x\nhead: {tops: 1}", r"no option 'head.tops' in .*Did you mean 'head.top'"),
        ("c.yaml", "head: {top: 1}\nhead.top: 2", "head.top is given twice"),
        ("c.yaml", "a: [", "not YAML"),
        ("c.yaml", "- a", "must hold options by name"),
        ("c.yaml", "!!python/object/apply:os.getcwd []", "not YAML"),
        ("c.json", "{", "not JSON"),
        ("c.toml", "", "must end in .yaml, .yml or .json"),
    ],
)
def test_bad_config_files(capsys, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    code, _, err = say(capsys, "scan-heads", f"config={tmp_path / name}")
    assert code == 2 and err.count("\n") == 1 and re.search(message, err), err


def test_reproducing_line_makes_the_same_config():
    filled = config("a b", "lengths=1k", "until=0.25", "head.top=3", "colour=BLUE", "fast=true", "out=x y")
    line = command_line(SCAN, filled)
    words = shlex.split(line)
    assert words[:2] == ["workbench", "scan-heads"] and "dtype" not in line
    assert config(*words[2:]) == filled
    assert command_line(SCAN, config("a")) == "workbench scan-heads model=a"


def test_whole_numbers():
    assert [whole_number(t) for t in ("0", "-3", "4_096", "4k", "128K", "2m")] == [0, -3, 4096, 4096, 131072, 2**21]
    for text in ("", "k", "1.5k", "1e3", "0x10", "4 k", "--1"):
        with pytest.raises(NotThat):
            whole_number(text)


def test_file_values_are_as_strict_as_typed_ones():
    assert conform(1, float) == 1.0 and type(conform(1, float)) is float
    assert conform([["a"], []], tuple[tuple[str, ...], ...]) == (("a",), ())
    for value, kind in ((True, int), (1, bool), (1.0, int), (5, str), (None, int), ([1], int), ("x", type(None))):
        with pytest.raises(NotThat):
            conform(value, kind)
    with pytest.raises(TypeError):
        cast("x", LiveModel)
