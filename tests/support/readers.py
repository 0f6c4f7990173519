"""Everything that reads a file of the user's, with a sound file for it and what must hold of whatever it returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from fake_commands import SCAN
from sample_circuits import IOI, circuit_of
from workbench_analyses.circuits.reuse_sides import EFFECTS, Side, read_side
from workbench_analyses.sinks.reading import read_texts
from workbench_analyses.visual.sights import opened

from workbench.circuits import Circuit, read_circuit
from workbench.exporters import discover, export
from workbench.exporters.cutting import Cutting
from workbench.exporters.headvis import read_headvis
from workbench.exporters.provenance import PROVENANCE
from workbench.geometry import of_model
from workbench.head_lists import about_list, act_list, head_list, read_heads
from workbench.head_metrics import HeadMetrics, Metric, Text, read_metrics
from workbench.heads import HeadScores, ModelIdentity
from workbench.jsonable import dumps
from workbench.options import command_line, parse
from workbench.part_folders import read_part
from workbench.parts import PLAN
from workbench.runs import Run, read_run
from workbench.score_checks import check_fit
from workbench.scores_io import read_scores, score_files
from workbench.scores_record import from_json, to_json
from workbench.shards import pack
from workbench.smallest_windows import METHOD
from workbench.sources import check_folder
from workbench.tasks.chair import chair, judge
from workbench.tasks.choices import read_choices
from workbench.tasks.coco import read_captions, read_coco
from workbench.tasks.ioi import read_mib
from workbench.tasks.needle import read_haystack, read_needles
from workbench.tasks.object_words import object_words
from workbench.tasks.ruler import read_rows, score
from workbench.untrusted import read_json

LAYERS, HEADS, KV = 3, 4, 2
SHAPE: dict[str, Any] = {"layers": LAYERS, "heads": HEADS}


@dataclass(frozen=True)
class Reader:
    """make: writes sound files into a folder. read: takes the folder. check: what must hold of what it returns."""

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    check: Callable[[Any], Any] = lambda value: None

    @cache  # noqa: B019 - the readers live as long as the tests
    def files(self) -> Mapping[str, bytes]:
        """The sound files by name."""
        with TemporaryDirectory() as folder:
            self.make(Path(folder))
            return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def _scores(**fields: Any) -> HeadScores:
    values = np.random.default_rng(5).random((4, LAYERS, HEADS)).round(3)
    return HeadScores.from_samples(values, "test", kv_heads=KV, **fields)


def _exported(name: str) -> Callable[[Path], Any]:
    """A file in this format, without the provenance that would say of every change that there was one."""
    context = {"context": 4096} if name in ("lu-kv", "tensorrt-llm") else {}
    options: dict[str, Any] = {"share": 1.0, "force": True} if name in ("tensorrt-llm", "hf-layers") else {}
    sizes = {"sink_size": 128, "recent_size": 256} if name in ("omni-attention", "lserve") else {}

    def make(folder: Path) -> None:
        if name == "head-windows":
            windows = np.arange(1.0, 1 + LAYERS * KV).reshape(LAYERS, KV)
            given = HeadScores(windows, METHOD, {"sink_size": 4, "context": 5, "tolerance": 0.1}, kv_heads=KV)
            export(given, name, folder)
        elif discover()[name].level is None:
            export(_scores(groups=("a", "a", "b", "c")), name, folder)
        else:
            export(_scores(), name, folder, sparsity=0.5, **context, **options, **sizes)
        if name != "scores-json":
            (folder / PROVENANCE).unlink(missing_ok=True)

    return make


def _read_format(name: str) -> Callable[[Path], HeadScores]:
    def read(folder: Path) -> HeadScores:
        return read_scores(folder / discover()[name].marker, KV, format=name, **SHAPE)

    return read


def sound_scores(scores: HeadScores) -> None:
    """What everybody does with scores works, and what is written of them comes back."""
    check_fit(scores)
    assert not np.isinf(scores.values).any() and scores.values.size
    assert len(scores.rank()) == scores.scored.sum() and scores.describe() and scores.top(2) is not None
    assert scores.compare(scores, k=2).n_heads >= 0 and Cutting.of(scores, {}).line(scores) is not None
    again = from_json(json.loads(dumps(to_json(scores)).encode()))
    np.testing.assert_array_equal(again.values, scores.values)
    assert all(text.encode() for text in score_files(scores).values())


def sound_circuit(one: Circuit) -> None:
    """Its heads are heads of its model, and it comes back."""
    assert one.ranks().shape == (one.n_layers, one.n_heads) and one.csv() and len(one.nodes) <= one.ranks().size
    assert all(one.in_stage(s.name) is not None for s in one.stages) and one.roles() is not None
    assert json.loads(one.json().encode())["task"] == one.task


def _circuit(folder: Path) -> None:
    one = circuit_of(IOI, needed=[(0, 10)])
    one.save(folder / "circuit.json")
    rng = np.random.default_rng(2)
    held = {f"effect/{s.name}": rng.normal(size=(4, 12, 12)) for s in one.stages}
    held |= {"difference/clean": rng.normal(size=4), "difference/corrupted": rng.normal(size=4)}
    (folder / EFFECTS).write_bytes(pack(held, {}))
    question = {"model": "m", "seed": 3, "tau": 0.02, "dtype": "float32"}
    (folder / "run.json").write_text(dumps({"schema": 1, "command": "trace-circuit", "question": question}))


def sound_side(side: Side) -> None:
    """What a comparison asks of it first."""
    sound_circuit(side.circuit)
    assert side.tau == side.tau and isinstance(side.asked.get("seed", 0), int)
    assert all(side.sizes(key).shape == side.shape for key in side.keys.values()) and side.in_stages() is not None


def _metrics(folder: Path) -> None:
    rng = np.random.default_rng(1)
    weights = np.sort(rng.random((2, LAYERS, HEADS, 5, 3)))[..., ::-1] / 3
    keys = rng.integers(0, 5, weights.shape)
    texts = tuple(Text(tuple("abcde"), k, w) for k, w in zip(keys, weights, strict=True))
    held = HeadMetrics(
        "m", (Metric("a", "A", "help", rng.random((LAYERS, HEADS)), "induction_score"),), texts, KV, {"seq_len": 5}
    )
    (folder / "metrics.json").write_text(dumps(held.to_json()))
    (folder / "texts.safetensors").write_bytes(pack(held.arrays(), {}))


def sound_metrics(held: HeadMetrics) -> None:
    """They can be written for HeadVis."""
    assert all(m.values.shape == held.shape for m in held.metrics)
    for text in held.texts:
        assert text.keys.shape == text.weights.shape == (*held.shape, len(text.words), text.keys.shape[-1])
    from workbench.exporters.headvis import _Tree

    assert all(_Tree(held, "")[name] for name in list(_Tree(held, ""))[:6])


QUESTION = {"model": "m@1", "seed": 7, "until": 0.5}


def _run(folder: Path) -> None:
    with Run.open(folder, "scan-heads", "m", QUESTION) as run:
        for unit in ("a/1", "b/2"):
            run.save(unit, {"x": np.arange(6.0).reshape(2, 3)}, {"answered": True})
        run.finish({"top": [1]}, {"seconds": 1.0})


def _resume(folder: Path) -> Run:
    with Run.open(folder, "scan-heads", "m", QUESTION) as run:
        for unit in sorted(run.done()):
            run.load(unit)
        run.remember("c/3", lambda: ({"x": np.ones(2)}, {}))
        assert run.seconds() >= 0 and run.question == QUESTION
        run.finish({}, {})
    assert read_run(run.path)["state"] == "done"
    return run


def _part(folder: Path) -> None:
    question = {"model": "m@1", "seed": 7}
    with Run.open(folder, "scan-heads", "m", question, part=".shard-0-of-2") as run:
        run.save("a", {"x": np.ones(2)}, {})
        plan = {"shard": "0/2", "units": ["a"], "of_units": 2, "options": {"seed": "7"}, "made_with": {"device": "cpu"}}
        run.write_json(PLAN, {"schema": 2, "workbench": "0", **plan})
        run.finish({}, {})


def _write(**texts: Any) -> Callable[[Path], None]:
    """Files by name, `__` for the dot: text, bytes, or a value as JSON; lists of objects as lines."""

    def make(folder: Path) -> None:
        for key, held in texts.items():
            name = key.replace("__", ".")
            lines = isinstance(held, list) and name.endswith(".jsonl")
            text = "".join(json.dumps(row) + "\n" for row in held) if lines else json.dumps(held)
            (folder / name).write_text(held if isinstance(held, str) else text)

    return make


CAPTIONS = [
    {"image_id": 1, "caption": "a dog on a bench"},
    {"image_id": "COCO_val2014_000000000002.jpg", "caption": "a cat"},
]
COCO = {
    "images": [{"id": 1}, {"id": 2}], "categories": [{"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}],
    "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 2, "category_id": 4}],
}  # fmt: skip
MIB = {
    "templates": ["Then {name_A} and {name_B} went to the {place}. {name_C} gave a {object} to"],
    "names": ["Mary", "John", "Anna"], "places": ["park"], "objects": ["ring"],
}  # fmt: skip
NEEDLES = [{"needle": "the code is blue", "answer": "blue", "question": "what is the code ?"}] * 2
CHOICES = [{"prompt": "a b", "choices": ["x", "y"], "answer": 1}, {"prompt": "c", "choices": ["x", "z"], "answer": "z"}]
ROWS = [
    {"index": 3, "input": "some text", "outputs": ["12", "13"], "length": 9},
    {
        "context": "c",
        "question": "q",
        "answer_prefix": "p",
        "answer": ["a"],
        "task": "niah_single",
        "max_new_tokens": 5,
    },
]
CONFIG = {
    "lengths": [256, 512],
    "until": 0.25,
    "head": {"top": 3},
    "note": "x",
    "fast": True,
    "context": 99,
    "model": "m",
}
YAML = "lengths: [256, 512]\nuntil: 0.25\nhead:\n  top: 3\nnote: x\nfast: true\nmodel: llama\n"
HF = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def _config(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        return parse(SCAN, [f"config={folder / name}"]).config

    return read


def _picture(folder: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.bmp"):
        Image.fromarray(pixels).save(folder / name)


def _chair(folder: Path) -> Any:
    truth = read_coco(folder / "instances.json")
    captions = [c for c in read_captions(folder / "c.jsonl") if c.image in truth]
    return chair(judge(captions, truth)) if captions else None


def _provenance(folder: Path) -> None:
    export(_scores(model=ModelIdentity("m", "c", "w")), "golden-stick", folder, sparsity=0.5)


def _hf(folder: Path) -> None:
    _write(config__json=HF)(folder)
    (folder / "model.safetensors").write_bytes(b"x")


def _lists(folder: Path) -> None:
    heads = [(2, 1), (2, 3), (4, 0)]
    (folder / "own.json").write_text(head_list(heads, {"beta": 0.4}))
    (folder / "act.json").write_text(act_list(heads, 5))


def _record(folder: Path) -> None:
    given = replace(_scores(model=ModelIdentity("m", "c", "w")), tiebreak=np.ones((LAYERS, HEADS)), clip=(0.0, 1.0))
    (folder / "scores.json").write_text(dumps(to_json(given)))


FORMATS = {name: Reader(_exported(name), _read_format(name), sound_scores) for name in discover()}
READERS = {
    **{f"format {name}": reader for name, reader in FORMATS.items()},
    "a folder of scores": Reader(_exported("scores-json"), read_scores, sound_scores),
    "a whole record of scores": Reader(_record, read_scores, sound_scores),
    "provenance beside a list": Reader(_provenance, lambda f: read_scores(f, KV, **SHAPE), sound_scores),
    "all metrics of HeadVis": Reader(_exported("headvis"), read_headvis, sound_metrics),
    "an atlas": Reader(_metrics, read_metrics, sound_metrics),
    "lists of heads": Reader(
        _lists, lambda f: [(read_heads(f / n), about_list(f / n)) for n in ("own.json", "act.json")], dumps
    ),
    "a circuit": Reader(_circuit, read_circuit, sound_circuit),
    "a run of a circuit": Reader(_circuit, read_side, sound_side),
    "a run": Reader(_run, _resume, lambda run: dumps(run.question)),
    "a part of a run": Reader(
        _part, lambda f: read_part(next(p for p in f.iterdir() if p.is_dir())),
        lambda part: dumps([part.units, part.options, part.entries, str(part.part)]).encode(),
    ),
    "a model's shape": Reader(_hf, lambda f: of_model(f), str),
    "config in JSON": Reader(_write(c__json=CONFIG), _config("c.json"), lambda config: command_line(SCAN, config)),
    "config in YAML": Reader(_write(c__yaml=YAML), _config("c.yaml"), lambda config: command_line(SCAN, config)),
    "captions and COCO": Reader(_write(c__jsonl=CAPTIONS, instances__json=COCO), _chair),
    "captions in a list": Reader(_write(c__json=CAPTIONS), lambda f: read_captions(f / "c.json")),
    "COCO's folder": Reader(
        _write(instances_a__json=COCO, captions_a__json={"annotations": CAPTIONS}), read_coco,
        lambda truth: [sorted(objects) for objects in truth.values()],
    ),
    "synonyms": Reader(
        _write(s__txt="dog, puppy\nhot dog, sausage\n"), lambda f: object_words.__wrapped__(f / "s.txt"),
            lambda w: w.mentions("a hot dog s")
    ),
    "needles": Reader(_write(n__jsonl=NEEDLES), lambda f: read_needles(f / "n.jsonl"), lambda found: found[0].answer[0]),
    "haystack": Reader(_write(a__txt="One. Two. Three.\r\nFour", b__txt="Five."), read_haystack, lambda parts: parts[0][0]),
    "choices": Reader(_write(c__jsonl=CHOICES), lambda f: read_choices(f / "c.jsonl")),
    "rows of RULER": Reader(
        _write(r__jsonl=ROWS), lambda f: read_rows(f / "r.jsonl"), lambda rows: [score("x 12", r.outputs,
            r.task) for r in rows]
    ),
    "templates": Reader(
        _write(**{f"{k}__json": v for k, v in MIB.items()}), read_mib,
        lambda found: [t.format(S="a", IO="b", place="c", object="d") for t in found[0]],
    ),
    "texts": Reader(_write(a__txt="one text", b__txt="another"), lambda f: read_texts(str(f))),
    "a model's folder": Reader(_hf, lambda f: check_folder(f, False)),
    "strict JSON": Reader(_write(a__json=CONFIG), lambda f: read_json(f / "a.json"), lambda value: dumps(value).encode()),
    "pictures": Reader(
        _picture, lambda f: [opened(f / n) for n in ("a.png", "b.jpg", "c.webp", "d.bmp")],
            lambda p: [np.asarray(x).sum() for x in p]
    ),
}  # fmt: skip
