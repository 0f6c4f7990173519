"""The largest tensors of a scan are logits: nothing makes those of all columns that does not need them, or uncounted."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench.budget import FewerRows
from workbench.errors import TooLarge
from workbench.interventions import mask
from workbench.probes import repeats
from workbench.probes.repeats import repeat_scores
from workbench.validation import _loss


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture
def asked(model, monkeypatch):
    """Tokens of the forwards from now on, and columns of their logits."""
    seen, forward = [], model.forward

    def spy(tokens, *args, **options):
        out = forward(tokens, *args, **options)
        seen.append((tokens, out.logits.shape[1]))
        return out

    monkeypatch.setattr(model, "forward", spy)
    return seen


def test_repeats_are_predicted_in_blocks_of_columns(model, asked, monkeypatch):
    said, says = [], repeats._said
    monkeypatch.setattr(repeats, "_said", lambda *args: said.append(says(*args)) or said[-1])
    whole = repeat_scores(model, 41)
    monkeypatch.setattr(model, "memory", 7 * 97 * 4)  # of seven columns
    parts = repeat_scores(model, 41)
    assert [columns for _, columns in asked] == [1, 1]
    tokens, k = asked[0][0], whole.k
    start = tokens.shape[1] - 3 * k
    want = model(tokens)[0, start:-1].argmax(-1)
    assert torch.equal(said[0], want) and torch.equal(said[1], want) and len(want.unique()) > 3
    assert parts.accuracy == whole.accuracy == float((want == tokens[0, start + 1 :]).float().mean())


def test_a_reference_needs_no_logits(model, asked):
    x, seen = torch.randint(3, 97, (3, 20), generator=torch.Generator().manual_seed(1)), {}
    found = wb.reference(model, x)
    assert [columns for _, columns in asked] == [1]
    hooks = [(f"blocks.{i}.attn.hook_z", lambda z, hook, i=i: seen.update({i: z})) for i in range(model.n_layers)]
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=hooks):
        model.bridge(x)
    want = torch.stack([seen[i].flatten(0, 1).mean(0) for i in range(model.n_layers)])
    torch.testing.assert_close(found.values[:, :, 0], want, rtol=1e-5, atol=1e-6)


def test_the_loss_of_prose_goes_on_with_fewer_rows(model, narrow, monkeypatch):
    x, heads = torch.randint(3, 97, (5, 24), generator=torch.Generator().manual_seed(2)), ((1, 2),)
    with torch.no_grad(), wb.intervene(model, mask(heads)):
        want = torch.nn.functional.cross_entropy(model(x)[:, :-1].double().flatten(0, 1), x[:, 1:].flatten())
        went = narrow(model, 3)
    with torch.no_grad(), pytest.warns(FewerRows, match="prose: memory ran out"):
        assert _loss(model, x, mask, heads) == pytest.approx(float(want), rel=1e-5)
    assert went == [2, 2, 1]
    monkeypatch.setattr(model, "memory", "9kB")
    with pytest.raises(TooLarge, match="prose: .* for one row, more than 9kB: raise memory= to"):
        _loss(model, x, mask, heads)
