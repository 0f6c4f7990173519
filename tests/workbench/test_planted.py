"""Planted models: the heads do what their roles say, they alone, and the probes and the masking find just that."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from workbench_kernels import Reductions

import workbench as wb
from workbench.choosing import choice_rows, choose
from workbench.errors import ModelError
from workbench.probes.retrieval import score_block
from workbench.reference_models import planted
from workbench.reference_models.catalogue import BUNDLED, PLANTED, folder
from workbench.reference_models.planted.codes import SQUARE, WORD, codes
from workbench.reference_models.recipes import grammar
from workbench.tasks.choices import choice_samples
from workbench.tasks.needle import KINDS, Assembler, blocks

COPY, SINK = PLANTED["planted-copy"], PLANTED["planted-sink"]
EVERY = {(layer, head) for layer in range(3) for head in range(8)}
STOP = grammar.INDEX["."]


@pytest.fixture(scope="module")
def copy_model():
    return wb.load("planted-copy")


@pytest.fixture(scope="module")
def sink_model():
    return wb.load("planted-sink")


def needles(model, lengths=(128, 256), depths=(0.0, 50.0, 100.0), rounds=4):
    return list(blocks(Assembler(model.tokenizer), lengths, depths, rounds, seed=0))


def scored(model, units):
    return [s for unit in units for s in score_block(model, unit, {STOP, *model.stop_tokens})]


def prose(model, n, seed=0):
    return model.tokens(" ".join(grammar.prose(np.random.default_rng(seed), n)))[:, :n]


def recall(model, samples, lists):
    """Share of samples answered exactly with each list of heads masked, all lists as rows of one batch."""
    right = []
    for sample in samples:
        tokens = torch.tensor([[*sample.tokens, *sample.answer]]).expand(len(lists), -1)
        rows = slice(len(sample.tokens) - 1, tokens.shape[1] - 1)
        logits = model.forward(tokens, edits=[wb.mask(heads) for heads in lists], keep=rows).logits
        right.append((logits.argmax(-1) == torch.tensor(sample.answer)).all(-1))
    return torch.stack(right).double().mean(0).numpy()


def observed(model, tokens, **asked):
    return model.forward(tokens, reductions=lambda layer, mask: Reductions(**asked)).statistics


@pytest.mark.parametrize("name", ["planted-calibrate", "planted-copy", "planted-sink"])
def test_every_head_has_a_role_and_a_trained_model_has_none(name):
    heads = [head for places in BUNDLED[name].roles.values() for head in places]
    assert set(heads) == EVERY and (name == "planted-sink" or len(heads) == len(EVERY))
    assert set(BUNDLED[name].sinks) <= set(BUNDLED[name].roles)
    assert not BUNDLED["llama"].roles


def test_a_scan_finds_exactly_the_copy_heads(copy_model):
    units = needles(copy_model)
    samples = scored(copy_model, units)
    assert {x.kind for u in units for x in u.samples} == set(KINDS)
    assert len(samples) == 24 and all(s.exact and not s.decoded for s in samples)
    score = np.mean([s.distinct for s in samples], 0)
    assert {h for h in EVERY if score[h] >= 0.95} == set(COPY.roles["copy"])
    assert {h for h in EVERY if score[h] > 0.05} == set(COPY.roles["copy"])
    # Whoever ranks by mass on the needle reports the decoys: heads of two roles that never copy hold a third of it.
    mass, shown = np.mean([s.mass for s in samples], 0), [*COPY.roles["ahead"], *COPY.roles["echo"]]
    assert min(mass[h] for h in shown) > 0.3 and max(score[h] for h in shown) == 0


def test_the_answer_holds_over_the_whole_context(copy_model):
    (unit,) = needles(copy_model, (4000,), (0.0,), 1)
    (sample,) = scored(copy_model, [unit])
    assert len(unit.samples[0].tokens) > 3900 and sample.exact


def test_masking_shows_that_each_copy_head_suffices_and_none_other_matters(copy_model):
    copies = COPY.roles["copy"]
    samples = [s for unit in needles(copy_model, (128,), (0.0, 60.0), 4) for s in unit.samples]
    first, second = ([h for h in range(8) if (layer, h) not in copies] for layer in (1, 2))
    matched = [((1, i), (2, j), (2, k)) for i in first for j in second for k in second if j < k]
    draws = [matched[i] for i in np.random.default_rng(0).choice(len(matched), 20, replace=False)]
    kept = [*((h,) for h in copies), *(tuple(set(copies) - {h}) for h in copies), *draws]
    assert len(matched) == 105 and recall(copy_model, samples, [copies])[0] == 0
    assert recall(copy_model, samples, kept).min() >= 0.95
    writers = [COPY.roles[role] for role in ("previous", "previous-2")]
    assert recall(copy_model, samples, writers).max() <= 0.05


@pytest.mark.parametrize("planted_model", [COPY, SINK], ids=lambda p: p.name)
def test_heads_that_look_back_do_so_over_the_whole_context(planted_model, request):
    model = request.getfixturevalue("copy_model" if planted_model is COPY else "sink_model")
    tokens = torch.randint(4, len(codes()), (1, 4096), generator=torch.Generator().manual_seed(0))
    tokens[0, 0] = grammar.BOS
    found = observed(model, tokens, offsets=(0, 1, 2, 3))
    back = {"self": 0, "previous": 1, "previous-idle": 1, "previous-2": 2, "previous-3": 3}
    expected = {h: offset for role, offset in back.items() for h in planted_model.roles.get(role, ())}
    for layer, head in EVERY:
        share = found[layer].at_offset[0, head, 3:]
        at = [o for o in range(4) if share[:, o].min() > 0.99]
        assert at == [expected[layer, head]] if (layer, head) in expected else not at


def test_the_name_in_the_question_decides_by_way_of_one_head(copy_model):
    said = "the secret code of ben is : amber arrow badge . the secret code of zoe is : velvet lotus moss . "
    codes = {"ben": "amber arrow badge .", "zoe": "velvet lotus moss ."}

    def answers(edits=None):
        prompts = [said + f"question : what is the secret code of {name} ? answer :" for name in codes]
        new = [copy_model.generate(p, 5, stop=[STOP], edits=edits)[0] for p in prompts]
        return [copy_model.tokenizer.decode(n) for n in new]

    assert answers() == list(codes.values())
    unnamed = answers(wb.mask(COPY.roles["previous-3"]))
    assert unnamed[0] == unnamed[1]


@pytest.mark.parametrize("name", ["copy_model", "sink_model"])
def test_logits_are_those_of_hugging_face(name, request):
    model = request.getfixturevalue(name)
    theirs, _ = PLANTED[model.name].build()
    tokens = prose(model, 200).repeat(2, 1)
    with torch.no_grad():
        difference = (model(tokens) - theirs(tokens).logits).abs().max()
    assert theirs(tokens).logits.max() > 10 and difference < 1e-3  # steep softmaxes amplify rounding


def test_bfloat16_answers_too():
    model = wb.load("planted-copy", dtype="bfloat16")
    samples = scored(model, needles(model, (128, 512), (0.0, 50.0), 3))
    score = np.mean([s.distinct for s in samples], 0)
    assert model.dtype == torch.bfloat16 and np.mean([s.exact for s in samples]) >= 0.95
    assert {h for h in EVERY if score[h] >= 0.95} == set(COPY.roles["copy"])


@pytest.mark.parametrize("n", [128, 1024])
def test_received_attention_finds_exactly_the_planted_sinks(sink_model, n):
    tokens = prose(sink_model, n)
    found = observed(sink_model, tokens, received=True)
    roles, first_stop = SINK.roles, tokens[0].tolist().index(STOP)
    assert first_stop > 4 and set(SINK.sinks) == {"sink-bos", "sink-bos-value", "sink-later"}
    for token, column in (("<bos>", 0), (".", first_stop)):
        parked = {h for role, at in SINK.sinks.items() if at == token for h in roles[role]}
        received = {h: float(found[h[0]].received[0, h[1], column]) for h in EVERY}
        assert {h for h in EVERY if received[h] >= 0.3} == {h for h in EVERY if received[h] > 0.1} == parked
    others = EVERY - {h for role in SINK.sinks for h in roles[role]}
    assert max(float(found[i].received[0, j, : n - 16].max()) for i, j in others) <= 0.1  # the last keys: few queries


def test_values_of_the_sinks_are_as_planted(sink_model):
    tokens = prose(sink_model, 128)
    column = {"<bos>": 0, ".": tokens[0].tolist().index(STOP)}
    for role, token in SINK.sinks.items():
        for layer, head in SINK.roles[role]:
            _, cache = sink_model.bridge.run_with_cache(tokens, names_filter=f"blocks.{layer}.attn.hook_v")
            values = cache[f"blocks.{layer}.attn.hook_v"].reshape(128, 4, 128)[:, head // 2].norm(dim=-1)
            sink = values[column[token]]
            if role == "sink-bos-value":
                assert sink == pytest.approx(SQUARE**0.5, rel=0.02)
            else:
                assert sink == 0 and values.max() > 1


def test_masking_and_blocking_tell_sinks_with_a_value_from_sinks_without(sink_model):
    tokens = sink_model.tokens("ben and clara watched . red lamp carried old horse")
    plain = sink_model(tokens)[0, -1]
    assert plain.argmax() == STOP and plain[STOP] == pytest.approx(2.0, abs=0.3)

    def blocked(layer, head):
        def edit(pattern, hook):
            pattern[:, head, 1:, 0] = 0
            pattern[:, head, 1:] /= pattern[:, head, 1:].sum(-1, keepdim=True)
            return pattern

        hooks = [(f"blocks.{layer}.attn.hook_pattern", edit)]
        return sink_model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)[0, -1]

    masked = {h: sink_model.forward(tokens, edits=wb.mask((h,))).logits[0, -1] for h in ((1, 2), (1, 4))}
    assert masked[1, 2][STOP] < 1 and blocked(1, 2)[STOP] < 1  # its value is what says the full stop
    assert (masked[1, 4] - plain).abs().max() < 1e-4  # the copy head's sink has none, but its key keeps the head quiet
    assert (blocked(1, 4) - plain).abs().max() > 2


def test_codes_are_nearly_orthogonal():
    every = codes()
    products = every @ every.T
    assert every.shape[0] == len(grammar.VOCABULARY) and torch.allclose(products.diag(), torch.tensor(SQUARE))
    assert (products - products.diag().diag()).abs().max() <= SQUARE / 4 + 1e-6
    assert torch.equal(every[:, :WORD].bfloat16().float(), every[:, :WORD])


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second = COPY.build()[0], COPY.build()[0]
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_a_new_file_is_a_new_model_and_a_name_is_taken_once(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "__path__", [*planted.__path__, str(tmp_path)])
    text = "from workbench.reference_models.planted import Planted\nPLANTED = Planted({!r}, '', lambda: None, {{}})\n"
    (tmp_path / "fresh_heads.py").write_text(text.format("planted-fresh"))
    assert set(planted.planted_models()) == {*PLANTED, "planted-fresh"}
    (tmp_path / "second_heads.py").write_text(text.format("planted-copy"))
    with pytest.raises(RuntimeError, match="'planted-copy' is defined twice"):
        planted.planted_models()


def test_no_folder_and_no_heavy_import():
    with pytest.raises(ModelError, match="built on load"):
        folder("planted-copy")
    code = (
        "import sys; from workbench.reference_models.catalogue import BUNDLED; print(len(BUNDLED['planted-copy'].roles))"
        ";print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(len(COPY.roles)), "[]"]


def test_calibrating_one_head_mends_answers_and_another_spoils_them():
    """With the sink's column given; `workbench calibrate` finds it by itself. (0, 0) counts stops: they are its business."""
    model = wb.load("planted-calibrate")
    samples = choice_samples("needle-choice", Assembler(model.tokenizer), 40, 0)
    stops = choice_rows(samples)
    keys = [(int((row == STOP).nonzero()[0]),) for row in stops.tokens]
    right = {
        h: (choose(model, samples, wb.calibrate([h], keys=keys)) > 0).float().mean() for h in sorted(EVERY - {(0, 0)})
    }
    base = (choose(model, samples) > 0).float().mean()
    assert 0.3 <= base <= 0.7
    assert {h for h, share in right.items() if share != base} == {(1, 4), (1, 6)}
    assert right[1, 4] >= base + 0.2 and right[1, 6] <= base - 0.05
