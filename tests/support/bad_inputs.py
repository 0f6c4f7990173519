"""Wrong inputs as data: what is typed, what files lie there, and a piece of what must be said."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

File = str | bytes | Callable[[Path], Any]
"""What a file holds, or what makes it."""


@dataclass(frozen=True)
class Case:
    """words: the command line after `workbench`. files: by name, laid out in the folder that it is typed in."""

    name: str
    words: list[str]
    says: str = ""
    files: Mapping[str, File] = field(default_factory=dict)

    def lay_out(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)


def table(text: str, **files: File) -> list[Case]:
    """Cases of `words | what must be said`, a line each, named by their words."""
    out = []
    for line in filter(None, map(str.strip, text.splitlines())):
        words, _, says = line.partition(" | ")
        split = shlex.split(words)
        out.append(Case(words[:80], split, says.strip(), files))
    return out


def each(command: str, name: str, contents: Mapping[str, tuple[File, str]], **beside: File) -> list[Case]:
    """One command on many contents of one file, named by what is wrong with it."""
    return [
        Case(f"{shlex.split(command)[0]} {name}: {what}", shlex.split(command), says, {name: content, **beside})
        for what, (content, says) in contents.items()
    ]


SCORES = json.dumps({f"{layer}-{head}": [layer / 4, head / 4] for layer in range(3) for head in range(4)})
DEEP = "[" * 100_000
LONG_ONE = 5000
LONG = "9" * LONG_ONE
BINARY = bytes(range(256))
HOSTILE = "<script>alert(1)</script>\x1b[31m"

MODELS = "scan-heads scan-sinks calibrate trace-circuit simulate"
ON_ALL = """
model=lama | Did you mean 'llama'
model= | model
model=./nowhere | nowhere
model=nobody/nothing | HF_HUB_OFFLINE
model=a/b/c | a/b/c
model=~/nothing | nothing
model=http://example.com/m | example.com
model=../../../etc/passwd | passwd
model=/dev/null | /dev/null
model=. | no config.json
seed=-1 | seed
seed=x | not a whole number
seed=99999999999999999999 | beyond 9,007,199,254,740,992
batch=10000001 | batch=10000001: give at most 10,000,000
batch=0 | batch
batch=-5 | batch
dtype=int8 | use float32, bfloat16, float16
dtype= | dtype
out=/dev/null/runs | /dev/null is a file
out=/proc/runs model=nowhere | nowhere
device=quantum model=planted-copy | quantum
device=cuda:99 model=planted-copy | cuda
trust_remote_code=perhaps | neither true nor false
nonsense=1 | no option 'nonsense'
--seed 3 | use key=value: seed=3
x y z | not an option
seed=1 seed=2 | given twice
config=nowhere.yaml | cannot read it
samples=many | samples
"""
WORDS = [
    case
    for command in MODELS.split()
    for case in table("\n".join(f"{command} {line.strip()}" for line in ON_ALL.strip().splitlines()))
    if not (command == "scan-heads" and "samples" in case.words[1])
    and not (command == "simulate" and case.words[1:] == "x y z".split())
]
WORDS += table("""
scan-heads context=10 | at least 256
scan-heads context=9999999999999999999999 model=planted-copy | beyond 9,007,199,254,740,992
scan-heads context=99999 model=planted-copy | takes 4096 tokens
scan-heads lengths=, | lengths
scan-heads lengths=1,2 | at least 64
scan-heads lengths=-5 | at least 64
scan-heads depths=101 | percentages from 0 to 100
scan-heads depths=nan | not a finite number
scan-heads depths=, | depths
scan-heads rounds=0 | rounds
scan-heads rounds=1.5 | not a whole number
scan-heads until=2 | stability between 0 and 1
scan-heads until=inf | not a finite number
scan-heads proof=maybe | default, full, none
scan-heads ablation=uniform_ | Did you mean 'uniform'
scan-heads recent=0 | recent ≥ 1
scan-heads sink=-1 | sink ≥ 0
scan-heads backend=cuda | use one of auto
scan-heads needles=nowhere.jsonl | nowhere.jsonl
scan-heads haystack=nowhere.txt model=planted-copy lengths=128, | haystack=nowhere.txt
scan-heads shard=3/3 | shards count from 0
scan-heads shard=two | write shard=i/n
scan-heads shard=0/2 engine=ray | give one of them
scan-heads shard=0/2 out=none | give out=
scan-heads engine=slurm | use local, ray
scan-heads device=auto:cpu=much model=llama | an amount such as 2GB
scan-heads device=gpus:2 model=llama | requires CUDA
scan-sinks shard=0/0 | 1 to
calibrate shard=-1/2 | write shard=i/n
trace-circuit shard=0/2 | no option 'shard'
merge | merge needs folders=
merge nowhere | holds no part of a run
merge . .. | holds no part of a run
scan-heads template=jinja model=planted-copy lengths=128, | use auto, chat or none
scan-heads template=chat model=planted-copy lengths=128, | template
scan-sinks tokens=10 | at least 64
scan-sinks tokens=999999 recent=8 model=planted-sink | takes 4096
scan-sinks samples=1 | samples=1: give at least 2
scan-sinks a=0.5 | at least 1
scan-sinks epsilon=0 | between 0 and 1
scan-sinks epsilon_tokens=600 | 2 to tokens
scan-sinks recent=999 | leave something out
scan-sinks texts=nowhere | cannot be read
scan-sinks texts=. | no .txt file
scan-sinks tau=1e9 model=planted-sink | could never exceed it
scan-sinks massive_ratio=0 | give at least 1
choose-cut . model= | model= is empty
calibrate samples=1 | at least 40
calibrate beta=1 | below 1
calibrate beta=-0.1 | a share from 0
calibrate a=1 | more than 1
calibrate a=3 absolute=0.1 | two rules
calibrate absolute=7 | between 0 and 1
calibrate exempt=-1 | counted from 0
calibrate layers=, | layers
calibrate layers=99 model=planted-copy | 99
calibrate level=0 | a rate between 0 and 1
calibrate draws=3 | fewer than 19
calibrate rule=papr | Did you mean 'paper'
calibrate receivers=everyone | use others, all
calibrate score=fist | Did you mean 'first'
calibrate task=nowhere.jsonl | no file and no bundled task
calibrate heads=nowhere.json | cannot read
trace-circuit task=iio | Did you mean 'ioi'
trace-circuit task=ioi corruption=mindif | use one of s2-io, abc
trace-circuit samples=3 | at least 16
trace-circuit explore=1 | at least 2
trace-circuit tau=0 | tau=0
trace-circuit follow=2 | follow=2
trace-circuit depth=0 | depth
trace-circuit memory=lots | an amount such as 2GB
trace-circuit memory=-5GB | memory
trace-circuit key=gpt3 | gpt2-ioi
trace-circuit key=gpt2-ioi model=planted-ioi samples=16 | 12 × 12 heads
trace-circuit task=induction names=a,b | for task=ioi
trace-circuit mlps=freezed | Did you mean 'frozen'
trace-circuit folder=nowhere model=planted-ioi | nowhere
trace-circuit model=planted-copy samples=16 | fit this tokenizer
repair-heads | needs heads=
repair-heads heads=x | write layer.head
repair-heads heads=1.1,1.1 | once
repair-heads heads=99.99 | 3 layers of 8 heads
repair-heads heads=1.1 task=iio | Did you mean 'ioi'
repair-heads heads=1.1 task=ioi | onto=
repair-heads heads=1.1 onto=moon | moon
repair-heads heads=1.1 draws=2 | fewer than 19
repair-heads heads=1.1 samples=2 | at least 16
repair-heads heads=99999999999999999999.1 | heads
simulate policy= | policy
simulate policy=duo,duo | each once
simulate policy=nothing | nothing
simulate policy=duo:sideways | sideways
simulate budgets=2 | between 0 and 1
simulate budgets=, | budgets
simulate context=10 | at least 128
simulate context=9999999 model=planted-copy samples=2 | takes 4096 tokens
simulate heads=nowhere | nowhere
simulate question=never | use seen, after
simulate depths=-1 | percentages
compare | needs a=
compare a.json | needs b=
compare nowhere nothing | nowhere does not exist
compare . . | holds no scores
compare /dev/null /dev/null | /dev/null
export | needs run=
export nowhere format=duo-attention | nowhere
export . format=duo-attention | holds no scores
export nowhere format=duo | use duo-attention
bench lengths=5 | at least 1,024
bench repetitions=1 | at least 5
chair | needs captions=
chair nowhere coco=nowhere | nowhere
train-reference | needs out=
train-reference model=lama out=x | Did you mean 'llama'
completion shell=fsh | Did you mean 'fish'
modles | Did you mean 'models'
models x | not an option
doctor --now | use key=value
formats json=perhaps | neither true nor false
""")
CONFIGS = each("scan-heads config=c.json", "c.json", {
    "empty": ("", "not JSON"), "a list": ("[1]", "options by name"), "a number": ("5", "options by name"),
    "cut off": ('{"model": "lla', "not JSON"), "binary": (BINARY, "not a text file"), "deep": (DEEP, "not JSON"),
    "unknown key": ('{"modle": "x"}', "Did you mean 'model'"), "wrong type": ('{"rounds": "x"}', "not a whole number"),
    "a list for text": ('{"model": ["llama"]}', "model"), "null": ('{"rounds": null}', "rounds"),
    "a long number": (f'{{"rounds": {LONG}}}', ""), "not a number": ('{"until": NaN}', "NaN is no number"),
    "a zero byte": ('{"model": "a\\u0000b"}', "no text"), "an escape": (json.dumps({"model": HOSTILE}), "script"),
    "nested": ('{"model": {"name": "llama"}}', "model"), "bool for number": ('{"rounds": true}', "rounds"),
    "a key twice": ('{"model": "nope", "model": "llama"}', "'model' stands there twice"),
    "a zero byte in a folder": ('{"out": "a\\u0000b", "model": "planted-copy"}', "out in c.json: 'a\\x00b' holds bytes"),
})  # fmt: skip
CONFIGS += each("scan-heads config=c.yaml", "c.yaml", {
    "a list": ("- a", "options by name"), "cut off": ("a: [", "not YAML"), "tabs": ("a:\n\t- b: [", "not YAML"),
    "a python object": ("!!python/object/apply:os.getcwd []", "not YAML"), "a date": ("seed: 2020-01-01", "seed"),
    "an alias of itself": ("a: &a [*a]", "aliases"), "binary": (BINARY, "not a text file"),
    "a key twice": ("model: nope\nmodel: llama", "'model' stands there twice"),
    "a key twice, deeper": ("head: {top: 1, 'top': 2}", "'top' stands there twice"),
    "a number in base 60": (f"seed: 1{':1' * 200_000}", "digits, which no number here has"),
    "a number in base 16": (f"seed: 0x{'f' * LONG_ONE}", "digits, which no number here has"),
    "a name in base 16": (f"? 0x{'f' * LONG_ONE}\n: 1", "digits, which no number here has"),
    "a long number": (f"seed: {LONG}", "digits, which no number here has"), "a large number": (f"seed: {2**60}", "beyond"),
})  # fmt: skip
CONFIGS += [
    Case("a config of another ending", ["scan-heads", "config=c.toml"], "must end in", {"c.toml": ""}),
    Case("a folder for a config", ["scan-heads", "config=c.json"], "cannot read it", {"c.json/x": ""}),
    Case(
        "a config that is a link to itself", ["scan-heads", "config=c.json"], "cannot read it",
        {"c.json": lambda path: path.symlink_to(path)},
    ),
]  # fmt: skip
NAN = SCORES.replace("0.25", "NaN")
SCORE_FILES = each("compare bad.json good.json", "bad.json", {
    "empty": ("", "bad.json"), "a list": ("[]", "bad.json"), "text": ('"x"', "bad.json"), "NaN": (NAN, "NaN is no number"),
    "infinity": (SCORES.replace("0.25", "Infinity"), "Infinity is no number"), "huge": (SCORES.replace("0.25", "1e999"), ""),
    "cut off": (SCORES[:-9], "bad.json"), "binary": (BINARY, "bad.json"), "deep": (DEEP, "bad.json"),
    "wrong keys": ('{"a": [1]}', "layer-head"), "ragged": ('{"0-0": [1], "0-1": [1, 2]}', "same samples"),
    "no heads": ("{}", "cannot be meant"), "negative places": ('{"-1-0": [1]}', "layer-head"), "text scores": (
        '{"0-0": ["1"]}', "no finite number"), "a million layers": ('{"99999-99999": [1]}', "cannot be meant"),
    "a key twice": ('{"0-0": [1], "0-0": [2]}', "twice"), "a long number": (f'{{"0-0": [{LONG}]}}', "digits"),
    "no list": ('{"0-0": 1}', "layer-head"), "null": ('{"0-0": [null]}', "no finite number"),
    "wrong format": ('{"format": "workbench-head-scores", "version": 99}', "layout 99"),
    "damaged record": ('{"format": "workbench-head-scores", "version": 1}', "damaged"),
    "another shape": ('{"0-0": [1]}', ""), "hostile name": (json.dumps({HOSTILE: [1]}), "layer-head"),
}, **{"good.json": SCORES})  # fmt: skip
GATES = {"p/config.json": '{"sink_size": 4, "recent_size": 8}'}
SCORE_FILES += each("compare p good.json", "p/full_attention_heads.tsv", {
    "empty": ("", "empty"), "ragged": ("1\t0\n1\n", "columns"), "text": ("a\tb\n", "not tab-separated"),
    "NaN": ("nan\t1\n", "NaN or infinity"), "infinity": ("inf\t1\n", "NaN or infinity"), "binary": (BINARY, "table of gates"),
    "commas": ("1,0\n", "not tab-separated"), "another shape": ("1\t0\n", ""),
}, **GATES, **{"good.json": SCORES})  # fmt: skip
SCORE_FILES += each("compare p good.json", "p/config.json", {
    "missing sizes": ("{}", "sink_size"), "a list": ("[]", "config.json"), "negative": ('{"sink_size": -1}', "sink_size"),
    "a fraction": ('{"sink_size": 1.5, "recent_size": 8}', "sink_size"), "not JSON": ("{", "config.json"),
}, **{"p/full_attention_heads.tsv": "1\t0\n", "good.json": SCORES})  # fmt: skip
SCORE_FILES += [
    Case("export to a file", ["export", "a.json", "format=scores-json", "out=a.json"], "", {"a.json": SCORES}),
    *(
        Case(f"export {' '.join(words)}", ["export", "a.json", *words], says, {"a.json": SCORES})
        for words, says in (
            (["format=nothing"], "nothing"), (["format=duo-attention", "sparsity=2"], "sparsity"),
            (["format=duo-attention", "sparsity=.5", "kv_heads=3"], "kv_heads"),
            (["format=duo-attention", "sparsity=.5", "threshold=.1", "kv_heads=4"], ""),
            (["format=scores-json", "sparsity=.5"], "sparsity"), (["format=duo-attention", "extra=x"], "extra=x"),
            (["format=duo-attention", "sparsity=.5", "kv_heads=4", "tiebreak=no.json"], "no.json"),
            (["format=duo-attention", "sparsity=.5", "kv_heads=4", "sink_size=-1"], "sink_size"),
            (["format=duo-attention", "sparsity=nan"], "finite"), (["format=duo-attention", "model=lama"], "llama"),
        )
    ),
    *(
        Case(f"a mask of {what}", ["compare", "head_mask.py", "a.json"], "no numbers of tokens", {
            "head_mask.py": f"SINK = {sink}\nRECENT = 1\nFULL = [[1, 0]]\n", "a.json": SCORES})
        for what, sink in (("a long number", f"0x1{'0' * LONG_ONE}"), ("a large number", 10**8), ("a negative one", -1))
    ),
    Case("windows of a long number", ["compare", "trtllm_kv_windows.yaml", "a.json", "kv_heads=2"], "is no YAML with", {
        "trtllm_kv_windows.yaml": f"kv_cache_config:\n  max_attention_window: [4]\n  sink_token_length: -0x{'f' * LONG_ONE}",
        "a.json": SCORES}),
    Case("compare k=0", ["compare", "a.json", "a.json", "k=0"], "", {"a.json": SCORES}),
    Case("compare with options of circuits", ["compare", "a.json", "a.json", "draws=200"], "circuits", {"a.json": SCORES}),
]  # fmt: skip
PACKED = io.BytesIO()
with zipfile.ZipFile(PACKED, "w", zipfile.ZIP_LZMA) as archive:
    archive.writestr("data.pkl", b"x" * 1000)
SCORE_FILES += each("compare head.pt head.pt kv_heads=2", "head.pt", {
    "packed otherwise": (PACKED.getvalue(), "packed in a way that torch does not"),
    "packed otherwise, damaged": (  # properties of LZMA behind the name and two numbers of two bytes
        re.sub(rb"(?s)(data\.pkl.{4}).{5}", rb"\1_____", PACKED.getvalue(), count=1), "in a way that torch"),
})  # fmt: skip
RECORD = json.dumps({"schema": 1, "question": {}, "command": "scan-heads"})
RUNS = each("compare r r", "r/run.json", {
    "empty": ("", ""), "a list": ("[]", ""), "another layout": ('{"schema": 99, "question": {}}', ""),
    "no scores": (RECORD, "holds no scores"), "binary": (BINARY, ""),
})  # fmt: skip
RUNS += each("simulate heads=r", "r/run.json", {
    "empty": ("", "damaged"), "a list": ("[]", "not the record"), "another layout": (
        '{"schema": 99, "question": {}}', "layout 99"), "binary": (BINARY, "damaged"), "deep": (DEEP, "damaged"),
})  # fmt: skip
RUNS += each("export r format=duo-attention threshold=.3 kv_heads=4", "r/run.json", {
    "a summary that is a list": (json.dumps({"schema": 1, "question": {}, "summary": [1]}), "not the record of a run"),
    "a summary that is a text": (json.dumps({"schema": 1, "question": {}, "summary": "x"}), "not the record of a run"),
}, **{"r/scores.json": SCORES})  # fmt: skip
RUNS += each("compare r r", "r/circuit.json", {
    "empty": ("", "circuit.json"), "a list": ("[]", "circuit.json"), "no fields": ("{}", "circuit.json"),
    "binary": (BINARY, "circuit.json"), "deep": (DEEP, "circuit.json"),
})  # fmt: skip
NEEDLE = {"needle": "the code is blue", "answer": "blue", "question": "what is the code ?"}
TEXTS = each("scan-heads needles=n.jsonl", "n.jsonl", {
    "empty": ("", "no needle"), "no JSON": ("{", "n.jsonl:1"), "a list": ("[1]", "n.jsonl:1"), "binary": (BINARY, "n.jsonl"),
    "no answer": (json.dumps(NEEDLE | {"answer": ""}), "does not stand"), "numbers": ('{"needle": 1}', "n.jsonl:1"),
    "another answer": (json.dumps(NEEDLE | {"answer": "red"}), "does not stand"), "a broken line": (
        json.dumps(NEEDLE) + "\n{oops\n", "n.jsonl:2"), "deep": (DEEP, "n.jsonl:1"),
    "missing": ('{"needle": "a"}', "n.jsonl:1"),
})  # fmt: skip
TEXTS += [
    Case(
        f"a name that is no UTF-8: {command}", shlex.split(f"{command}=n\udcff.jsonl"), "holds bytes that are no text",
        {"n\udcff.jsonl": json.dumps(NEEDLE)},
    )
    for command in ("scan-heads model=planted-copy lengths=96, needles", "calibrate task", "compare b=x a")
]  # fmt: skip
TEXTS += each("calibrate task=t.jsonl", "t.jsonl", {
    "empty": ("", "nothing in it"), "no JSON": ("{", "t.jsonl:1"), "binary": (BINARY, "t.jsonl"), "deep": (DEEP, "t.jsonl:1"),
    "one choice": ('{"prompt": "a", "choices": ["b"], "answer": 0}', "at least two"), "same choices": (
        '{"prompt": "a", "choices": ["b", "b"], "answer": 0}', "all different"),
    "no such answer": ('{"prompt": "a", "choices": ["b", "c"], "answer": 7}', "none of the choices"),
    "a truth for an answer": ('{"prompt": "a", "choices": ["b", "c"], "answer": true}', "none of the choices"),
    "prompts of numbers": ('{"prompt": 1, "choices": ["b", "c"], "answer": 0}', "t.jsonl:1"),
})  # fmt: skip
TEXTS += each("calibrate heads=h.json", "h.json", {
    "empty": ("", "h.json"), "text": ('"x"', "h.json"), "pairs of three": ('{"heads": [[1, 2, 3]]}', "pairs"),
    "negative": ('{"heads": [[-1, 2]]}', "pairs"), "truths": ('{"heads": [[true, 2]]}', "pairs"), "deep": (DEEP, "h.json"),
    "binary": (BINARY, "h.json"), "fractions": ("[[0.5]]", "h.json"),
})  # fmt: skip
TEXTS += each("scan-sinks texts=t.txt", "t.txt", {
    "empty": ("", "no text in it"), "binary": (BINARY, "not a text file"), "spaces": (" \n ", "no text in it"),
})  # fmt: skip
TEXTS += each("chair c.jsonl coco=i.json", "c.jsonl", {
    "empty": ("", "no caption"), "no JSON": ("{", "c.jsonl"), "no fields": ("{}", "c.jsonl"), "binary": (BINARY, "c.jsonl"),
    "numbers": ('{"image_id": 1, "caption": 5}', "c.jsonl"), "deep": (DEEP, "c.jsonl"), "a cut list": ("[", "c.jsonl"),
}, **{"i.json": '{"images": [], "annotations": [], "categories": []}'})  # fmt: skip
TEXTS += each("chair c.jsonl coco=i.json", "i.json", {
    "empty": ("", "i.json"), "a list": ("[]", "i.json"), "no fields": ("{}", "i.json"), "binary": (BINARY, "i.json"),
    "deep": (DEEP, "i.json"),
}, **{"c.jsonl": '{"image_id": 1, "caption": "a dog"}'})  # fmt: skip
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
TINY = CONFIG | {
    "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64,
}  # fmt: skip
FOLDERS = each("scan-heads model=./m", "m/config.json", {
    "empty": ("", "not JSON"), "cut off": ('{"model_type": "ll', "not JSON"), "binary": (BINARY, "config.json"),
    "a list": ("[]", "config.json"), "deep": (DEEP, "config.json"), "an encoder": (
        '{"architectures": ["BertForMaskedLM"]}', "not a decoder"),
    "code of its own": ('{"auto_map": {"AutoModel": "evil.py"}}', "trust_remote_code=true"),
    "an unknown kind": ('{"model_type": "zzz"}', "cannot be loaded"), "no kind": ("{}", "cannot be loaded"),
    "architectures of text": ('{"architectures": "x"}', ""), "architectures of numbers": ('{"architectures": [5]}', ""),
}, **{"m/model.safetensors": b"x"})  # fmt: skip
FOLDERS += each("scan-heads model=./m", "m/model.safetensors", {
    "empty": (b"", "cannot be loaded"), "text": (b"hello world, no header here", "cannot be loaded"),
    "a header that lies": ((2**60).to_bytes(8, "little") + b"{}", "cannot be loaded"),
    "cut off": ((99).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', "cannot be loaded"),
}, **{"m/config.json": json.dumps(TINY)})  # fmt: skip
FOLDERS += [
    Case(
        "pickled weights alone", ["scan-heads", "model=./m"], "pickled weights",
        {"m/config.json": json.dumps(CONFIG), "m/pytorch_model.bin": b"\x80\x04."},
    ),
    Case("no weights", ["scan-heads", "model=./m"], "no weights", {"m/config.json": json.dumps(CONFIG)}),
    Case(
        "a run folder in a file's place", ["scan-heads", "model=planted-copy", "out=f"], "is a file", {"f": "kept"},
    ),
    Case(
        "weights that are a link to nothing", ["scan-heads", "model=./m"], "",
        {"m/config.json": json.dumps(TINY), "m/model.safetensors": lambda path: os.symlink("nowhere", path)},
    ),
]  # fmt: skip
CASES = WORDS + CONFIGS + SCORE_FILES + RUNS + TEXTS + FOLDERS
