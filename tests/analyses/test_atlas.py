"""The head atlas: every metric against a naive float64 version, planted heads as ground truth, chance as a control."""

from __future__ import annotations

import json
from types import SimpleNamespace

import beginnings
import numpy as np
import pytest
import tiny_models
import torch
from dense_attention import bridge_patterns
from rich.console import Console
from sample_circuits import circuit_of
from workbench_analyses.atlas import Atlas, atlas
from workbench_analyses.atlas_parts import patterns
from workbench_analyses.atlas_parts.battery import scene_prompts, score_scenes
from workbench_analyses.atlas_parts.estimates import estimate, mean_over, ratio
from workbench_analyses.atlas_parts.measures import CORPUS
from workbench_analyses.atlas_parts.patterns import RAW, REST, Batch, read_patterns, version
from workbench_analyses.atlas_parts.terminal import terminal

import workbench as wb
from workbench import backends
from workbench.errors import BadInput
from workbench.heads import ModelIdentity
from workbench.reference_models.catalogue import PLANTED
from workbench.scores_io import read_scores
from workbench.sinks import SinkRule, prompt_sinks

SMALL = {"samples": 2, "tokens": 128, "sequences": 2, "needles": 0, "repeats": 2, "ioi": 0, "scenes": 0}


def naive(p, x, mask, start: int, hidden=None) -> dict[str, np.ndarray]:
    """The corpus metrics of one batch, row by row from their definitions, pooled over rows: [layers, heads] by name."""
    b, layers, heads, n, _ = p.shape
    sums: dict[str, np.ndarray] = {}

    def add(name: str, layer: int, head: int, value: float) -> None:
        sums.setdefault(name, np.zeros((layers, heads)))[layer, head] += value

    tokens, rows = x.tolist(), mask.tolist()
    for t, layer, head in np.ndindex(b, layers, heads):
        first = rows[t].index(True)
        for q in range(max(first, start), n):
            if not rows[t][q]:
                continue
            row = p[t, layer, head, q].numpy().copy()
            if hidden is not None:
                row[hidden[t, layer, head].numpy()] = 0
                if row.sum() < 0.05:
                    continue
                threshold, row = 0.01 / row.sum(), row / row.sum()
            else:
                threshold = 0.01
            add("rows", layer, head, 1)
            add("self", layer, head, row[q])
            if q > first:
                add("previous", layer, head, row[q - 1])
                add("previous_rows", layer, head, 1)
            add("entropy", layer, head, -sum(w * np.log(w) for w in row if w > 0))
            far = np.maximum(q - np.arange(n), 0)
            add("distance", layer, head, (row * far).sum())
            add("distance2", layer, head, (row * far**2).sum())
            add("near", layer, head, row[(far < 32) & (np.arange(n) <= q)].sum())
            add("first", layer, head, row[first])
            copies = [k for k in range(first, q) if tokens[t][k] == tokens[t][q]]
            if copies:
                add("copies", layer, head, 1)
                add("echo", layer, head, row[copies].sum())
                add("strong_induction", layer, head, sum(row[k + 1] for k in copies if row[k + 1] >= threshold))
    return sums


def compared(found, truth, atol: float = 2e-5) -> None:
    for m in CORPUS:
        if m.of is None or not set(m.reads) <= {*truth} & {*found}:
            continue
        ours = m.of({name: found[name].sum(0) for name in m.reads})
        np.testing.assert_allclose(
            ours, m.of(truth), atol=atol * 1000 if "variance" in m.name else atol, rtol=2e-4, err_msg=m.name
        )


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_metrics_are_those_of_dense_patterns(kind: str, tmp_path):
    """Grouped heads, left padding, a batch; gemma2 has sliding windows and a softcap."""
    model = wb.load(tiny_models.save(kind, tmp_path))
    x = torch.randint(3, 12, (2, 36), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(36)[None] >= torch.tensor([[0], [9]])
    found = version(read_patterns(model, Batch(x, mask, 3)), RAW)
    compared(found, naive(bridge_patterns(model, x, mask), x, mask, 3))


def test_metrics_without_sinks_are_those_of_dense_patterns_without_them():
    model, rule = wb.load("planted-sink"), SinkRule()
    words = [t for t in range(len(model.tokenizer)) if t not in model.tokenizer.all_special_ids][:9]
    bos, stop = model.tokenizer.bos_token_id, model.tokenizer.convert_tokens_to_ids(".")
    drawn = torch.tensor(words)[torch.randint(len(words), (2, 60), generator=torch.Generator().manual_seed(1))]
    x = torch.cat([torch.full((2, 1), bos), drawn], 1)
    x[:, 4] = stop
    mask = torch.ones_like(x, dtype=torch.bool)
    sums = read_patterns(model, Batch(x, mask, 0))
    found, sinks = version(sums, REST), prompt_sinks(model, x.tolist(), rule).transpose(0, 1)
    p = bridge_patterns(model, x, mask)
    compared(found, naive(p, x, mask, 0, sinks), 2e-4)
    left = p.masked_fill(sinks[:, :, :, None], 0).sum(-1)
    np.testing.assert_array_equal(found["dropped"], (left < 0.05).sum(-1))
    np.testing.assert_allclose(found["mass"], left.sum(-1), atol=1e-3)
    np.testing.assert_array_equal(found["hidden_sinks"], sinks[..., 1:].sum(-1))
    assert found["dropped"].max() > 20 and (found["dropped"] == 0).any(), "some rows have next to nothing left"
    raw = version(sums, RAW)
    assert np.abs(raw["entropy"] - found["entropy"]).max() > 1, "sinks hide what the rest looks like"


def test_intervals_resample_texts_and_make_the_score_again():
    rng = np.random.default_rng(0)
    above, below = rng.random((6, 1, 2)), np.array([1.0, 2, 3, 4, 5, 60])[:, None, None] * np.ones((6, 1, 2))
    found = estimate({"a": above, "b": below}, ("a", "b"), ratio("a", "b"), 3)
    np.testing.assert_allclose(found.values, above.sum(0) / below.sum(0))
    draws = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 1000)
    made = np.array([(d @ above[:, 0]) / (d @ below[:, 0]) for d in draws])
    np.testing.assert_allclose([found.low[0], found.high[0]], np.quantile(made, [0.025, 0.975], axis=0))
    part = mean_over(np.array([[[1.0]], [[np.nan]], [[3.0]]]))
    some = mean_over(np.array([[[1.0, np.nan, np.nan]], [[2.0, 5.0, np.nan]]]))
    assert some.values[0, :2].tolist() == [1.5, 5] and np.isnan(some.values[0, 2]) and some.n == 2
    assert part.values == 2 and part.n == 2 and np.isnan(mean_over(np.full((2, 1, 1), np.nan)).values).all()


def top(found, key: str, k: int) -> set[tuple[int, int]]:
    return {tuple(h) for h in found.head_scores(key).top(k)}


PLANTED_RUN = {**SMALL, "also": "planted-sink", "needles": 5}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def planted(runs):
    """Two models at once: copy heads and sinks with ground truth."""
    return atlas("planted-copy", out=str(runs), **PLANTED_RUN)


def test_planted_heads_lead_their_scores(planted):
    side, roles = planted.side, PLANTED["planted-copy"].roles
    assert top(side, "retrieval", 3) == set(roles["copy"])
    assert top(side, "repeats_echo", 3) == set(roles["echo"])
    assert set(roles["copy"]) <= top(side, "repeats_induction", 5)
    assert top(side, "repeats_previous", 2) == {*roles["previous"], *roles["previous-idle"]}
    assert set(roles["sink-bos"]) <= top(side, "first", 8)
    entropy = side.score("entropy").estimate.values
    assert top(side, "entropy", 3) == set(roles["uniform"]) and entropy[roles["previous"][0]] < 0.1


def test_planted_sinks_are_taken_out(planted):
    side, roles = planted.also, PLANTED["planted-sink"].roles
    values = {key: side.score(key).estimate.values for key in ("first", "dropped", "hidden_sinks", "sink_mass", "self")}
    for head in roles["sink-later"]:
        assert values["hidden_sinks"][head] > 0.4, head
    parks = [h for h in roles["sink-bos"] if h not in roles["copy"] and h != (0, 0)]
    for head in parks:
        assert values["first"][head] > 0.9 and values["dropped"][head] > 0.9 and values["hidden_sinks"][head] == 0
    for head in roles["uniform"]:
        assert values["sink_mass"][head] < 1e-6 and values["dropped"][head] == 0
    same = next(iter(roles["self"]))
    assert values["self"][same] == pytest.approx(side.score(f"self/{REST}").estimate.values[same], abs=1e-6)


def test_planted_copy_heads_raise_what_they_read(planted):
    side, roles = planted.side, PLANTED["planted-copy"].roles
    assert side.raised is not None and side.raised.places.shape == (*side.shape, 3, 3)

    def same(head) -> list[bool]:
        read = [side.words[i] for i, share in zip(side.reads[head][:3], side.shares[head]) if share > 0.01]
        return [word == side.raised.words[side.raised.places[head][j, 0]] for j, word in enumerate(read)]

    assert all(all(same(h)) and same(h) for h in roles["copy"])
    assert not all(all(same(h)) for h in np.ndindex(*side.shape) if h not in roles["copy"])


def test_another_score_of_a_run_leaves_as_a_serving_file(planted, runs, tmp_path, capsys):
    from workbench.cli import main

    folder, echo = runs / planted.path.rpartition("/")[2], PLANTED["planted-copy"].roles["echo"]
    cut = np.sort(planted.score("repeats_echo").values, axis=None)[-len(echo)]
    words = ["export", str(folder), "format=qrhead", "score=repeats_echo", f"threshold={cut:.6f}", f"out={tmp_path}"]
    assert main(words) == 0 and "not validated" in capsys.readouterr().out
    assert {tuple(h) for h in read_scores(tmp_path, layers=4, heads=8).at_least(0.1)} == set(echo)
    (tmp_path / "one.json").write_text('{"0-0": [0.5]}')
    for run, name, said in (
        (folder, "entropie", "Did you mean 'entropy'?"),
        (tmp_path / "one.json", "entropy", "one score only"),
    ):
        assert main(["export", str(run), "format=qrhead", f"score={name}", "threshold=0.1", f"out={tmp_path}"]) == 2
        assert said in capsys.readouterr().err


def test_planted_ioi_heads_lead_what_they_look_at_and_roles_become_scores(tmp_path):
    model, roles = wb.load("planted-ioi"), PLANTED["planted-ioi"].roles
    stages = {
        (1, "resid", "END"): {"mover": [(2, 0)], "negative mover": [(2, 1)]},
        (2, "q", "END"): {"reader": [(1, 0)]},
    }
    identity = ModelIdentity(model.name, *model.identity())
    circuit = circuit_of(stages, shape=(model.n_layers, model.n_heads), model=identity)
    circuit.save(tmp_path / "circuit.json")
    found = atlas(model, circuit=str(tmp_path), **{**SMALL, "ioi": 12}).side
    for key, role in (("duplicate", "duplicate"), ("s_inhibition", "inhibition"), ("previous", "previous")):
        assert set(roles[role]) == top(found, f"ioi_{key}", len(roles[role])), role
    assert set(roles["name-mover"]) <= top(found, "ioi_mover", 2)
    mover = found.score("circuit_mover").estimate
    assert mover.values[2, 0] == circuit.heads[0].share and np.count_nonzero(mover.values) == 1
    assert mover.low[2, 0] == circuit.heads[0].low
    assert found.score("circuit_negative_mover").estimate.values[2, 1] < 0
    with pytest.raises(BadInput, match="trace it in this model"):
        atlas("planted-copy", circuit=str(tmp_path), **SMALL)


def test_a_random_model_has_induction_by_chance_only(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path, seed=4))
    found = atlas(model, **SMALL)
    tokens, start = 128, 1 + 127 // 4
    k = start - 1
    copies = [sum(1 for c in range(1, 4) if q - c * k >= 1) for q in range(start, tokens)]
    chance = float(np.mean([c / (q + 1) for q, c in zip(range(start, tokens), copies, strict=True)]))
    values = found.score("repeats_induction").values
    assert 0.2 * chance < values.mean() < 3 * chance < 0.2, (values.mean(), chance)


def test_a_run_resumes_and_its_files_say_the_same(planted, runs):
    import pandas as pd

    folder = runs / planted.path.rpartition("/")[2]
    before = {f.name: f.stat().st_mtime_ns for f in (folder / "shards").iterdir()}
    second = atlas("planted-copy", out=str(runs), **PLANTED_RUN)
    assert second.path == planted.path
    assert before == {f.name: f.stat().st_mtime_ns for f in (folder / "shards").iterdir()} and len(before) > 6
    frame = pd.read_parquet(folder / "scores.parquet")
    assert list(frame.columns) == [
        "model",
        "layer",
        "head",
        "kv_head",
        "metric",
        "version",
        "value",
        "low",
        "high",
        "n",
    ]
    row = frame[
        (frame.model == "planted-copy")
        & (frame.metric == "entropy")
        & (frame.version == REST)
        & (frame.layer == 1)
        & (frame["head"] == 6)
    ]
    assert float(row.value.iloc[0]) == planted.score(f"entropy/{REST}").values[1, 6] and int(row.n.iloc[0]) == 2
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "done" and record["summary"]["validation"] == "not validated"
    assert (folder / "report.html").stat().st_size < 1_000_000
    assert np.array_equal(read_scores(folder).values, planted.primary.values, equal_nan=True)


def test_two_models_and_what_cannot_be_asked(planted, tmp_path):
    assert len(planted.sides) == 2 and planted.to_frame().model.nunique() == 2
    assert planted.side.left_out["ioi"] == "ioi=0" and "not validated" in planted.verdict
    with (console := Console(width=200)).capture() as shown:
        console.print(terminal(planted))
    assert "not validated" in shown.get() and "not validated" in planted.page(), "the reader is told"
    with pytest.raises(BadInput, match="Did you mean 'entropy'"):
        planted.score("entropie")
    for options, said in (
        ({"samples": 1}, "samples=1: give at least 2"), ({"tokens": 10}, "at least 64"), ({"sequences": 9}, "samples=8"),
        ({"ioi": -1}, "ioi=-1"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            Atlas(**options)
    with pytest.raises(BadInput, match="give a run of trace-circuit"):
        atlas("planted-copy", circuit=str(tmp_path / "none"), **SMALL)


def test_pictures_are_drawn_of_every_prompt_and_llava_sees():
    model = wb.load("llava")
    found = atlas(model, **{**SMALL, "scenes": 3})  # its random tokens would hold the placeholder of pictures
    visual = found.score("visual").values
    with backends.used(model, "hooks"):  # whole patterns in float64, by code of their own
        dense_scores = score_scenes(model, scene_prompts(Atlas(scenes=3), model))
    for name, each in dense_scores.items():
        np.testing.assert_allclose(found.score(name).values, each.mean(0), atol=1e-5)
    assert set(dense_scores) == {"visual", f"visual/{REST}"}
    assert 0 < visual.max() <= 1 and [p.name for p in found.side.pictures][-2:] == ["scene 1", "scene 2"]
    picture = found.side.pictures[-1]
    assert (
        picture.levels.max() <= patterns.KEPT_KEYS + 3
        and picture.spans["picture"][1] - picture.spans["picture"][0] >= 16
    )


def test_the_corpus_is_in_words_that_the_vocabulary_holds(tmp_path):
    from workbench_analyses.atlas_parts.prose import generated
    from workbench_analyses.atlas_parts.texts import corpus, fitted

    from workbench.tasks.needle import Assembler

    for name, kind in (("planted-copy", "prose"), ("planted-ioi", "names")):
        model = wb.load(name)
        rows, said = generated(Assembler(model.tokenizer, "none"), model.tokenizer.unk_token_id, 3, 50, 0)
        assert kind in said and {len(r) for r in rows} == {50} and len(set(map(tuple, rows))) == 3
        assert not any(model.tokenizer.unk_token_id in row for row in rows)
    (tmp_path / "mine.txt").write_text("the red lamp opened the door . " * 60)
    asked = Atlas(texts=str(tmp_path / "mine.txt"), samples=2, sequences=0, tokens=64)
    model = wb.load("planted-copy")
    held = corpus(fitted(asked, model), model, Assembler(model.tokenizer, "none"))
    assert held.tokens.shape == (2, 64) and held.tokens[0, 0] == model.tokenizer.bos_token_id
    assert np.array_equal(held.words[held.places], held.tokens.numpy()) and held.source.endswith("mine.txt")
    with pytest.raises(BadInput, match="bos=false"):
        fitted(Atlas(bos=True), SimpleNamespace(name="m", context=512, tokenizer=beginnings.tokenizer(beginnings.NONE)))
