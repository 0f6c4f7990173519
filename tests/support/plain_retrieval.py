"""Random tiny models, blocks of needles for them, and retrieval scores from plain Hugging Face generation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny_models
import torch
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.tasks.needle import Block, Sample

KINDS = {"llama": 7, "gpt2": 3, "gpt_neox": 2, "mistral": 7, "gemma2": 6}
"""Random models with a seed at which their responses differ in length and heads copy."""
WINDOWED = {"mistral", "gemma2"}
ATOL = 1e-5  # of weights at most 1: a float32 softmax whose sum goes in another order
N = 16  # tokens of an answer


@dataclass(frozen=True)
class Case:
    """A model as the workbench and as Hugging Face have it, a block, its stop tokens."""

    kind: str
    model: Any
    plain: Any
    block: Block
    stops: set[int]


def said(plain: Any, tokens: tuple[int, ...], stops: set[int]) -> list[int]:
    """What Hugging Face's own greedy generation says before a stop token."""
    prompt = torch.tensor([tokens])
    ends = sorted(stops) or None
    out = plain.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=50, do_sample=False, eos_token_id=ends,
        pad_token_id=0,
    )  # fmt: skip
    response = out[0, len(tokens) :].tolist()
    return response[:-1] if response[-1] in stops else response


@torch.no_grad()
def expected(plain: Any, sample: Sample, stops: set[int]) -> tuple[list[int], dict[str, np.ndarray]]:
    """Response and scores by definition, on eager patterns of one forward without a cache."""
    response, n = said(plain, sample.tokens, stops), len(sample.answer)
    out = plain(torch.tensor([[*sample.tokens, *response]]), output_attentions=True, use_cache=False)
    (start, end), (first, last) = sample.spans["answer"], sample.spans["statement"]
    patterns = torch.stack(out.attentions)[:, 0].double().numpy()  # [layers, heads, queries, keys]
    raw, hit = np.zeros(patterns.shape[:2]), np.zeros((*patterns.shape[:2], n), bool)
    weight = {"mass": np.zeros_like(raw), "statement_mass": np.zeros_like(raw)}
    for i, token in enumerate(response):
        p = patterns[:, :, len(sample.tokens) - 1 + i]
        weight["mass"] += p[..., start:end].sum(-1) / len(response)
        weight["statement_mass"] += p[..., first:last].sum(-1) / len(response)
        for layer, head in np.ndindex(*raw.shape):
            key = int(p[layer, head].argmax())
            if start <= key < end and sample.tokens[key] == token:
                raw[layer, head] += 1 / n
                hit[layer, head, key - start] = True
    scores = {"raw": raw, "distinct": hit.mean(-1), **weight}
    scores = scores if response else {name: np.full_like(raw, np.nan) for name in scores}
    return response, {**scores, "qrhead": qrhead(plain, sample)}


@torch.no_grad()
def qrhead(plain: Any, sample: Sample) -> np.ndarray:
    """Query-focused score by definition (QRHead, score_docs_per_head_for_detection), token by token in float64."""
    asked, statement = sample.spans["question"][0], range(*sample.spans["statement"])
    seen = []
    for tokens in (sample.tokens, (*sample.tokens[:asked], *sample.null)):
        out = plain(torch.tensor([tokens]), output_attentions=True, use_cache=False)
        seen.append(torch.stack(out.attentions)[:, 0, :, asked:].double().numpy())
    scores = np.full(seen[0].shape[:2], np.nan)
    for layer, head in np.ndindex(*scores.shape) if sample.null else ():
        gained = [seen[0][layer, head, :, k].mean() - seen[1][layer, head, :, k].mean() for k in statement]
        least = np.mean(gained) - 2 * np.std(gained, ddof=1)
        scores[layer, head] = sum(x for x in gained if x >= least)
    return scores


def block_of(plain: Any, seed: int) -> tuple[Block, set[int]]:
    """Samples of different lengths that share a haystack, with answers that the model says to some part or not."""
    rng = np.random.default_rng(seed)
    haystack, samples = tuple(rng.integers(3, 97, 24).tolist()), []
    likely = said(plain, haystack, set())  # needles of what the model says anyway, so that heads do copy
    for i, (prefix, asked) in enumerate(((0, 13), (6, 8), (12, 18), (18, 23), (24, 1), (24, 33), (9, 28))):
        needle, question = rng.choice(likely, 6 + N).tolist(), rng.integers(3, 97, asked).tolist()
        tokens = (*haystack[:prefix], *needle, *haystack[prefix:], *question)
        spans = {"answer": (prefix + 6, prefix + 6 + N), "statement": (prefix, prefix + len(needle))}
        spans["question"] = (len(tokens) - asked, len(tokens) - asked // 4)  # the rest is a template's
        answer = tuple(needle[6 : 6 + N])
        null = tuple(np.random.default_rng(i).integers(3, 97, i).tolist())  # the first has none
        samples.append(Sample(tokens, answer, spans, prefix, f"n{i}", "random", 0.0, (0, 0.0), null))
    free = [said(plain, s.tokens, set()) for s in samples]
    stops = {free[1][0], free[2][2]}
    for i, most in ((2, 2), (3, 1), (4, 3), (5, N)):
        agreed = list(itertools.takewhile(lambda t: t not in stops, free[i][:most]))
        rest = (t if t not in stops else 96 for t in samples[i].answer[len(agreed) :])
        samples[i] = replace(samples[i], answer=(*agreed, *rest))
    return Block("b", tuple(samples), haystack), stops


def random_case(kind: str, folder: Path) -> Case:
    """A random model of a kind with its block."""
    tiny_models.save(kind, folder)
    plain = eager(folder)
    return Case(kind, wb.load(folder), plain, *block_of(plain, KINDS[kind]))


def eager(folder: Path) -> Any:
    """The model as Hugging Face has it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def check(case: Case, scores: list) -> float:
    """Every score is the definition's; gives the number of copies."""
    assert len(scores) == len(case.block.samples)
    for sample, ours in zip(case.block.samples, scores, strict=True):
        response, want = expected(case.plain, sample, case.stops)
        assert ours.response == response
        for name, value in want.items():
            np.testing.assert_allclose(getattr(ours, name), value, rtol=0, atol=ATOL, err_msg=name)
    return float(np.nansum([s.raw for s in scores])) * N
