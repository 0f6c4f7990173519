"""The price of a cut: against edits in one forward, the page and its curve, one line for bad input."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from workbench_analyses.cuts.experiment import lengths

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.keeping import outside
from workbench.needle_recall import SEEDS, far_needles
from workbench.reference_models.catalogue import PLANTED
from workbench.tasks.assembling import Assembler

COPIES = PLANTED["planted-copy"].roles["copy"]
SMALL = {"context": 256, "samples": 6, "sink_size": 1, "recent_size": 40, "served": 4096}


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-copy")


@pytest.fixture(scope="module")
def scores():
    """One copy head is best, the others come after decoys."""
    values = np.random.default_rng(0).random((3, 8)) / 10
    values[COPIES[1]] = 0.9
    return HeadScores(values, "made up", kv_heads=4)


@pytest.fixture(scope="module")
def done(model, scores, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return wb.analyses.choose_cut.choose(scores, model, out=str(out), **SMALL), out


def test_a_recall_is_what_windows_by_edits_leave(done, model):
    """Decoding from the cut cache against every other head windowed in the decoded rows of one forward."""
    result, _ = done
    kv, group = result.scores, model.n_heads // model.n_kv_heads
    asked = far_needles(Assembler(model.tokenizer), 256, SEEDS[1], 6, 1, 40)
    assert len(outside(asked, 1, 40)) == len(asked) == result.told.shape[1]
    import torch

    for i, k in enumerate(result.ks):
        full = {(layer, g * group + x) for layer, g in kv.rank()[:k] for x in range(group)}
        rest = [(i, j) for i in range(model.n_layers) for j in range(model.n_heads) if (i, j) not in full]
        edits = [wb.window(rest, sink=1, recent=40, at="decode")] if rest else None
        for n, sample in enumerate(asked):
            tokens, first = torch.tensor([[*sample.tokens, *sample.answer]]), len(sample.tokens) - 1
            said = model.forward(tokens, edits=edits, decode_from=[first]).logits[0, first:-1].argmax(-1)
            assert result.told[i, n] == float(said.tolist() == list(sample.answer)), (k, n)
    assert result.told[0].mean() == 0 and result.told[-1].mean() == 1 and result.enough == 1


def test_shares_and_lengths(done):
    result, _ = done
    assert result.share(12) == 1 and result.share(0) == pytest.approx(41 / 4096)
    assert result.share(3, 41) == 1
    assert lengths(12) == (0, 1, 2, 3, 4, 6, 9, 12) and lengths(2) == (0, 1, 2) and lengths(1) == (0, 1)


def test_the_page_the_table_and_the_run(done, model, scores):
    result, out = done
    folder = next(out.iterdir())
    again = wb.analyses.choose_cut.choose(scores, model, out=str(out), **SMALL)
    assert (again.told == result.told).all() and len(list(out.iterdir())) == 1
    page = (folder / "report.html").read_text()
    assert 'data-block="cutslider"' in page and "expected" not in result.verdict
    console = Console(width=140, file=(text := StringIO()))
    console.print(result)
    assert "1 of 12" in text.getvalue() and "has the slider" in text.getvalue()
    assert result.slider.stops[result.slider.start].full == result.enough


def test_a_list_is_needed_and_bad_words_give_one_line(tmp_path, monkeypatch, capsys, model):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        ([], "choose-cut needs a list"),
        (["nowhere"], "nowhere does not exist"),
        (["nowhere", "prefill=half"], "use full, streaming, chunked"),
        (["nowhere", "served=0"], "give at least 1"),
        (["nowhere", "sample=3"], "Did you mean 'samples'"),
    ):
        assert main(["choose-cut", *words]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1 and said in lines[0], lines
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="another model's"):
        wb.analyses.choose_cut.choose(HeadScores(np.ones((2, 8)), "x"), model, **SMALL)
    with pytest.raises(BadInput, match="no place for needles outside"):
        wb.analyses.choose_cut.choose(HeadScores(np.ones((3, 8)), "x"), model, **{**SMALL, "recent_size": 300})
