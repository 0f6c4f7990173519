"""The pattern view against patterns of the plain eager bridge: cells, regions, rows, ticks, and what cannot be meant."""

from __future__ import annotations

import base64
import gzip
import json
import re

import numpy as np
import pytest
import tiny_models
import torch
from sample_patterns import long_view, pooled

import workbench as wb
from workbench import views
from workbench.errors import BadInput, TooLarge
from workbench.views import ExactRows, Page, PatternView, Section, Tile
from workbench.views.attention_patterns import props
from workbench.views.pattern_tiles import LEAST, levels, weights_of


@pytest.fixture(scope="module", params=["llama", "mistral"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@torch.no_grad()
def eager(model, x, mask=None):
    """[layers, b, h, n, n] of the plain bridge, in float64."""
    found = {}
    hooks = [(f"blocks.{i}.attn.hook_pattern", lambda p, hook: found.__setitem__(hook.name, p)) for i in range(3)]
    extra = {} if mask is None else {"attention_mask": mask.long()}
    model.bridge.run_with_hooks(x, fwd_hooks=hooks, **extra)
    return torch.stack([found[f"blocks.{i}.attn.hook_pattern"] for i in range(3)]).double()


def tokens(seed, b=2, n=46):
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("queries, keys, n", [((5, 46), (3, 46), 7), ((20, 31), (3, 17), 64), ((10, 44), (8, 41), 3)])
def test_a_region_is_the_mean_over_queries_of_the_mass_on_keys(model, queries, keys, n):
    mask = torch.arange(46)[None] >= torch.tensor([[0], [3]])
    x = tokens(int(n))
    p = eager(model, x, mask)
    found = wb.observe(
        model, x, [wb.probes.region(queries, keys, n), wb.probes.region(queries, keys, n, [5], "one")], mask
    )
    tall, wide = (-(-(b - a) // n) for a, b in (queries, keys))
    for r, q in enumerate(range(queries[0], queries[1], tall)):
        for c, k in enumerate(range(max(keys[0], 0), keys[1], wide)):
            block = p[..., q : min(q + tall, queries[1]), k : min(k + wide, keys[1])].sum(-1).mean(-1)
            torch.testing.assert_close(found["region"][..., r, c].double(), block, atol=2e-5, rtol=2e-5)
    assert found["region"].shape[-2:] == (-(-(queries[1] - queries[0]) // tall), -(-(keys[1] - keys[0]) // wide))
    assert torch.equal(found["one"], found["region"][:, :, [5]])


def test_regions_on_padding_or_the_wrong_way_round_are_one_line(model):
    mask = torch.arange(46)[None] >= torch.tensor([[0], [9]])
    with pytest.raises(BadInput, match="outside the text"):
        wb.observe(model, tokens(0), [wb.probes.region((3, 20), (10, 20))], mask)
    for bad in (lambda: wb.probes.region((5, 5), (0, 3)), lambda: wb.probes.region((0, 5), (0, 3), 0)):
        with pytest.raises(BadInput):
            bad()


def test_receivers_leave_out_keys_that_few_queries_see(model):
    mask = torch.arange(46)[None] >= torch.tensor([[0], [6]])
    x = tokens(3)
    p = eager(model, x, mask) * mask[None, :, None, :, None]
    sees = (p > 0).sum(-2)
    received = p.sum(-2) / sees.clamp_min(1)
    found = wb.observe(model, x, [wb.probes.receivers(4, 0.25), wb.probes.receivers(4, 0, "all")], mask)
    torch.testing.assert_close(found["all"].values.double(), received.topk(4, -1).values, atol=2e-5, rtol=2e-5)
    for row, first in enumerate((0, 6)):
        received[:, row, :, int(45 - 0.25 * (46 - first)) + 1 :] = 0
    torch.testing.assert_close(found["receivers"].values.double(), received.topk(4, -1).values, atol=2e-5, rtol=2e-5)
    assert not torch.equal(found["receivers"].indices, found["all"].indices)


def test_levels_are_within_twelve_percent():
    rng = np.random.default_rng(0)
    weights = 10 ** rng.uniform(-6, 0, 5000)
    back = weights_of(levels(weights))
    assert (np.abs(back / weights - 1) < 0.12).all() and len(np.unique(levels(weights))) == 63
    assert levels(np.array([0, LEAST / 2, np.nan, 1, 1.01])).tolist() == [0, 0, 255, 63, 63]


def held(html):
    """What the page carries: its numbers and its bytes by name."""
    read = lambda text: gzip.decompress(base64.b64decode(text))  # noqa: E731
    facts = json.loads(read(re.search(r'class="data">([^<]+)<', html)[1]))
    return facts, {name: read(body) for name, body in re.findall(r'class="bytes" data-name="(\w+)">([^<]*)<', html)}


def test_the_view_holds_what_was_observed(model):
    x, rows, chosen = tokens(4, n=40), (-1, 17), [(2, 3), (0, 7)]
    p = eager(model, x)
    found = wb.observe(model, x, views.pattern_probes(rows, n=5, fine=13, k=6))
    view = views.long_patterns(
        found, [f"t{i}" for i in range(40)], rows=rows, heads=chosen, batch=1, spans={"a": (3, 5)}
    )
    facts, data = held(view.html())
    overview = weights_of(np.frombuffer(data["overview"], np.uint8).reshape(3, 8, 5, 5))
    mass = p[:, 1].reshape(3, 8, 5, 8, 5, 8).sum(-1).mean(3).numpy()
    close = (np.abs(overview - mass) <= 0.13 * mass) | (mass < 1.1 * LEAST)
    assert close.all() and (mass > LEAST).sum() > 200
    assert [t[:1] + t[3:] for t in facts["tiles"]] == [[h * 8 + j, 4, 4, 10, 10, 2] for h, j in chosen]
    tiles = weights_of(np.frombuffer(data["tiles"], np.uint8).reshape(2, 2, 10, 10))
    blocks = torch.stack([p[i, 1, j] for i, j in chosen]).reshape(2, 10, 4, 10, 4)
    for channel, want in enumerate((blocks.sum(-1).mean(2), blocks.amax((2, 4)))):
        assert ((np.abs(tiles[:, channel] - want.numpy()) <= 0.13 * want.numpy()) | (want.numpy() < 1.1 * LEAST)).all()
    keys = np.frombuffer(data["rows"], "<u4", 24).reshape(2, 2, 6)
    weights = np.frombuffer(data["rows"], "<f4", offset=96).reshape(2, 2, 6)
    for place, (i, j) in enumerate(chosen):
        for r, q in enumerate((39, 17)):
            np.testing.assert_allclose(weights[place, r], p[i, 1, j, q].topk(6).values, rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(
                weights[place, r], p[i, 1, j, q, keys[place, r].astype(int)], rtol=1e-3, atol=1e-6
            )
    assert facts["rows"]["positions"] == [39, 17] and facts["spans"] == [["a", 3, 5]] and facts["first"] == 19
    assert json.loads(data["texts"])[:2] == ["t0", "t1"]


def test_short_texts_and_all_heads_need_no_choice(model):
    found = wb.observe(model, tokens(5, 1, 6), views.pattern_probes((-1,), n=4, fine=8, k=64))
    facts, _ = held(views.long_patterns(found, list("abcdef")).html())
    assert len(facts["tiles"]) == 24 and facts["tiles"][0][3:7] == [1, 1, 6, 6]
    without = wb.observe(model, tokens(5, 1, 6), views.pattern_probes((), fine=0))
    assert held(views.long_patterns(without, list("abcdef"), rows=()).html())[0]["tiles"] == []


def test_the_page_of_128k_tokens_and_1024_heads_fits(record_property):
    size = len(Page("t", "s", [Section("P", [long_view()])]).html().encode())
    record_property("bytes", size)
    assert size <= 2_000_000


def test_circuitsvis_names_the_viewer_for_longer_texts():
    with pytest.raises(TooLarge, match=r"wb\.views\.long_patterns") as caught:
        props(["a"] * 129, np.zeros((1, 129, 129)))
    assert "\n" not in str(caught.value)


def view(**changes):
    given = {
        "tokens": ["a"] * 8, "overview": pooled(np.random.default_rng(0), 2, 4)[:, 0].reshape(1, 2, 4, 4),
        "received_keys": np.zeros((1, 2, 3), dtype=int), "received": np.ones((1, 2, 3)),
    }  # fmt: skip
    return PatternView(**(given | changes))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: view(overview=np.zeros((2, 4, 4))), "overview is (2, 4, 4)"),
        (lambda: view(tokens=[]), "at least one token"),
        (lambda: view(received=np.ones((1, 2, 2))), "received is (1, 2, 2)"),
        (lambda: view(spans={"needle": (4, 9)}), "'needle' (4, 9) is outside the 8 tokens"),
        (lambda: view(rows=ExactRows([8], [(0, 0)], np.zeros((1, 1, 1), int), np.ones((1, 1, 1)))), "'row 8'"),
        (lambda: view(rows=ExactRows([1], [(0, 2)], np.zeros((1, 1, 1), int), np.ones((1, 1, 1)))), "head (0, 2)"),
        (lambda: view(rows=ExactRows([1], [], np.zeros((1, 1, 1), int), np.ones((1, 1, 1)))), "exact rows are"),
        (lambda: view(tiles=[Tile((1, 0), np.zeros((1, 2, 2)), 4, 4)]), "head (1, 0)"),
        (lambda: Tile((0, 0), np.zeros((2, 2)), 4, 4), "cells are (2, 2)"),
        (lambda: views.long_patterns({}, ["a"]), "pattern_probes"),
        (lambda: wb.probes.receivers(0), "at least one key"),
    ],
)
def test_what_cannot_be_meant_is_one_line(make, said):
    with pytest.raises(BadInput) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)
