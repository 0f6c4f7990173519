"""The pages "add a …": what they add, as written and put where they say, does what plain code does."""

from __future__ import annotations

import json

import doc_pages
import numpy as np
import pytest
import torch

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput
from workbench.interventions import Edit
from workbench.tasks.circuit_prompts import circuit_tasks

MOST = 40
"""Lines of a file that a page shows, fewer than."""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Runs a page; gives its names."""
    monkeypatch.setattr(Edit, "kinds", dict(Edit.kinds))

    def run(name: str):
        page = doc_pages.ROOT / "docs" / f"{name}.md"
        (file,) = (block for block in doc_pages.blocks(page) if block.file)
        assert file.text.count("\n") < MOST
        return doc_pages.run(page, tmp_path, monkeypatch)

    return run


def hooked(model, tokens, at: str, change=None):
    """Logits of the plain bridge, and what stood at a hook point of each block; change(x, layer) may alter it."""
    seen = {}

    def hook(x, hook):
        seen[hook.layer()] = x if change is None else change(x, hook.layer())
        return seen[hook.layer()]

    names = [(f"blocks.{i}.{at}", hook) for i in range(model.n_layers)]
    with torch.no_grad():
        logits = model.bridge.run_with_hooks(tokens, fwd_hooks=names)
    return logits, torch.stack([seen[i] for i in range(model.n_layers)])


def test_the_probe_is_what_whole_patterns_give(added):
    page = added("add-a-probe")
    p = hooked(page["model"], page["tokens"], "attn.hook_pattern")[1].double()
    truth = (-(p * p.clamp_min(1e-300).log()).sum(-1)).exp()
    torch.testing.assert_close(page["read"].double(), truth, atol=1e-4, rtol=1e-5)
    assert page["read"].min() >= 1 - 1e-4 and truth.max() > 3
    stream = hooked(page["model"], page["tokens"], "hook_resid_post")[1]
    torch.testing.assert_close(page["stream"], stream.abs().amax(-1))


def test_the_edit_is_what_a_hook_on_the_outputs_does(added):
    page = added("add-an-edit")
    model, tokens = page["model"], page["tokens"]
    gains = {(layer, head): 1 - 0.75 * layer / (model.n_layers - 1) for layer, head in page["heads"]} | {(2, 6): 0.0}

    def change(z, layer):
        z = z.clone()
        for (at, head), gain in gains.items():
            if at == layer:
                z[:, :, head] *= gain
        return z

    truth = hooked(model, tokens, "attn.hook_z", change)[0]
    torch.testing.assert_close(page["logits"], truth, atol=2e-4, rtol=1e-4)
    assert (model(tokens) - truth).abs().max() > 0.1
    edit = page["ramp"](page["heads"], 1.0, 0.25)
    assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit


def test_the_task_is_found_done_and_traced(added, tmp_path, monkeypatch, capsys):
    page = added("add-a-task")
    assert "who-follows" in circuit_tasks() and page["told"].float().mean() > 0.9
    for clean, corrupted, answers in zip(page["rows"].clean, page["rows"].corrupted, page["rows"].answers, strict=True):
        asked, other = (int((side[:-1] == side[-1]).nonzero()[0]) for side in (clean, corrupted))
        assert (clean != corrupted).nonzero().flatten().tolist() == [len(clean) - 1]
        assert answers.tolist() == [int(clean[asked + 1]), int(clean[other + 1])]
    induction = {(3, 1), (3, 4), (3, 5), (3, 2)}  # of the card, by attention on repeated random words
    assert len(induction.intersection(page["trace"].circuit.carrying)) >= 3
    assert main(["trace-circuit", "task=who-follow"]) == 2 and "'who-follows'" in capsys.readouterr().err


def test_the_format_is_listed_written_and_read_back(added, capsys):
    page = added("add-an-exporter")
    kept = wb.export(page["scores"], "duo-attention", "duo", sparsity=0.5)
    full = np.loadtxt(next(path for path in kept if path.suffix == ".tsv"), delimiter="\t")
    np.testing.assert_array_equal(page["again"].values, full)
    assert full.sum() == 8 and main(["formats"]) == 0 and "full-heads-csv" in capsys.readouterr().out
    with open("bad.csv", "w") as file:
        file.write("layer,head\n1,x\n")
    with pytest.raises(BadInput, match="whole numbers"):
        wb.read_scores("bad.csv", 4, format="full-heads-csv", layers=4)
