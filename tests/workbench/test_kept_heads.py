"""Circuits run by themselves, against hooks on the plain bridge: one set, one unpadded prompt at a time."""

from __future__ import annotations

import weakref

import pytest
import torch
from plain_patching import KINDS, exact_model

import workbench as wb
from workbench.budget import FewerRows
from workbench.errors import BadInput, TooLarge, Unsupported
from workbench.patching import head_sets, kept_differences, mean_outputs
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows, make_prompts

LENGTHS = {"short": 7, "middle": 9, "long": 12}


def prompts(n=7, seed=3):
    """Random pairs of three lengths, one length a template."""
    random = torch.Generator().manual_seed(seed)
    out = []
    for i in range(n):
        template = list(LENGTHS)[i % 3]
        clean, corrupted = torch.randint(3, 97, (2, LENGTHS[template]), generator=random).tolist()
        first, foil = (torch.randperm(94, generator=random)[:2] + 3).tolist()
        out.append(CircuitPrompt(tuple(clean), tuple(corrupted), (first, foil), {}, template, f"prompt {i}"))
    return out


def some_sets(model, n=9, seed=5):
    """Random sets; one whole, one empty, one that lacks heads of the last layer only."""
    keep = torch.rand(n, model.n_layers, model.n_heads, generator=torch.Generator().manual_seed(seed)) < 0.5
    keep[0], keep[1], keep[2, :-1] = True, False, True
    return keep


def outputs(model, ids):
    """z of every layer for one prompt."""
    names = [f"blocks.{i}.attn.hook_z" for i in range(model.n_layers)]
    with torch.no_grad():
        return model.bridge.run_with_cache(torch.tensor([ids]), names_filter=names)[1]


def by_hooks(model, asked, keep, how, reference=()):
    """The differences by their definition."""
    out = torch.zeros(len(keep), len(asked), dtype=torch.float64)
    for j, prompt in enumerate(asked):
        other = outputs(model, prompt.corrupted)
        if how == "mean":
            alike = [outputs(model, p.corrupted) for p in reference if p.template == prompt.template]
            other = {name: torch.stack([x[name] for x in alike]).mean(0) for name in other}
        for i, kept in enumerate(keep):

            def put(z, hook, kept=kept, other=other):
                z = z.clone()
                gone = ~kept[int(hook.name.split(".")[1])]
                z[:, :, gone] = 0 if how == "zero" else other[hook.name][:, :, gone]
                return z

            hooks = [(name, put) for name in other]
            with torch.no_grad():
                logits = model.bridge.run_with_hooks(torch.tensor([prompt.clean]), fwd_hooks=hooks)[0][-1]
            out[i, j] = logits[prompt.answers[0]] - logits[prompt.answers[1]]
    return out


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {kind: exact_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("how", ["resample", "mean", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_sets_have_the_differences_of_hooks(kind, how, models):
    model, asked = models[kind], prompts()
    keep, reference = some_sets(model), prompts(20, seed=8)
    means = mean_outputs(model, reference) if how == "mean" else None
    ours = kept_differences(model, asked, keep, how, means)
    torch.testing.assert_close(ours, by_hooks(model, asked, keep, how, reference), rtol=0, atol=1e-10)
    assert (ours - ours[0]).abs().max() > 1e-2  # sets differ
    assert not any(point.has_hooks() for point in model.bridge.hook_dict.values())


def test_the_whole_is_the_model_and_one_head_away_is_activation_patching(models):
    model, asked = models["llama"], prompts()
    rows = circuit_rows(asked)
    alone = [(i, j) for i in range(model.n_layers) for j in range(model.n_heads)]
    whole, *lacking = kept_differences(
        model, asked, torch.cat([head_sets(model, [alone]), ~head_sets(model, [[h] for h in alone])])
    )
    logits = model(rows.clean, rows.mask)[:, -1].gather(1, rows.answers)
    torch.testing.assert_close(whole, logits[:, 0] - logits[:, 1], rtol=0, atol=1e-10)
    effects = wb.patching.activation_effects(model, rows.clean, rows.corrupted, rows.answers, attention_mask=rows.mask)
    torch.testing.assert_close(torch.stack(lacking) - whole, effects.flatten(1).T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("how", ["resample", "mean"])
def test_neither_memory_nor_company_in_the_batch_changes_anything(how, models):
    model, asked = models["gpt2"], prompts()
    keep, means = some_sets(model), mean_outputs(model, asked)
    whole = kept_differences(model, asked, keep, how)  # without a reference: the mean of these prompts
    small = kept_differences(model, asked, keep, how, means, memory=400_000)
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-12)
    alone = kept_differences(model, asked[2:3], keep[4:5], how, means)
    torch.testing.assert_close(alone, whole[4:5, 2:3], rtol=0, atol=1e-12)
    with pytest.raises(TooLarge, match="raise memory="):
        kept_differences(model, asked, keep, how, means, memory=1000)


def test_the_smaller_the_budget_of_a_mean_the_less_is_held(models, narrow, monkeypatch):
    """One sum at a time, however many parts there are; a part that fails counts once."""
    model, asked, held = models["gpt2"], prompts(20, seed=8), []
    whole, stack = mean_outputs(model, asked), torch.stack

    def spy(parts, dim=0):
        out = stack(parts, dim)
        held.append(weakref.ref(out))
        assert sum(ref() is not None for ref in held) <= 2
        return out

    monkeypatch.setattr(torch, "stack", spy)
    went = narrow(model, 3)
    with pytest.warns(FewerRows, match="mean outputs"):
        few = mean_outputs(model, asked)
    assert max(went) == 3 and len(held) >= len(went) >= 7
    for template, value in whole.values.items():
        torch.testing.assert_close(few.values[template], value, rtol=0, atol=1e-12)
    with pytest.raises(TooLarge, match="mean outputs: .*raise memory="):
        mean_outputs(model, asked, memory=1000)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_less_precise_models_say_nearly_the_same(dtype):
    exact, rough = wb.load("planted-ioi", "float32"), wb.load("planted-ioi", dtype)
    asked = make_prompts("ioi", exact.tokenizer, 12, 1, corruption="abc").prompts
    keep = head_sets(exact, [[(0, 0), (1, 0), (2, 0), (2, 1)], []])
    want, ours = (kept_differences(m, asked, keep, "mean").float() for m in (exact, rough))
    assert (ours - want).abs().max() < {"float32": 1e-5, "bfloat16": 1.0}[dtype]
    assert (want[0] - want[1]).min() > 5  # the circuit answers, nothing at all does not


def test_bad_input_is_one_line(models):
    model, asked = models["gpt2"], prompts()
    keep = some_sets(model)
    means = mean_outputs(model, [p for p in asked if p.template != "long"])
    odd = CircuitPrompt((3, 4), (5, 6), (7, 8), {}, "short", "odd")
    for said, call in {
        "give bool": lambda: kept_differences(model, asked, keep.float()),
        "3 layers, 8 heads": lambda: kept_differences(model, asked, keep[:, :2]),
        "how=median": lambda: kept_differences(model, asked, keep, "median"),  # type: ignore[arg-type]
        "no prompt of its template": lambda: kept_differences(model, asked, keep, "mean", means),
        "2 and 7 tokens": lambda: mean_outputs(model, [*asked, odd]),
        "prompts of 7 tokens": lambda: kept_differences(model, [odd], keep, "mean", means),
        "head 3.0": lambda: head_sets(model, [[(3, 0)]]),
        "no prompts": lambda: kept_differences(model, [], keep),
    }.items():
        with pytest.raises(BadInput, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="outside `intervene`"):
        kept_differences(model, asked, keep)
