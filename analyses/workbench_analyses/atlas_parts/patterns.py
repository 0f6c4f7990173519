"""What one batch of texts gives: sums over the rows of every head, of the whole pattern and of that without sinks.

One forward. Rows are reduced as each layer is read, so nothing of the size of a pattern is kept. Without sinks: the keys
that the corrected rule names in a head are left out and each row is renormalised; rows with less than 5 % left are
dropped and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import Matches, Reductions, Statistics

from workbench.budget import in_parts
from workbench.masks import CompactMask
from workbench.models import Model
from workbench.observation import observe, row_bytes
from workbench.probes import Probe, token_labels, top_keys, without_sinks
from workbench.probes.even import even_columns
from workbench.probes.probe import Found
from workbench.sinks import SinkRule

RAW, REST = "raw", "without sinks"
VERSIONS = (RAW, REST)
LEAST_LEFT = 0.05
"""Share of a row that must be left without sinks; other rows are dropped."""
NEAR = 32
"""Distances below this many tokens are near; a power of two, for bins end there."""
FAINT = 0.01
"""HeadVis counts weights below this as nothing in its induction score."""
RULE = SinkRule()
NUMBERS = 24
"""Of each row of a pattern, at most: its bins of distance, moments, masses on keys that match, entropy."""
KEPT_KEYS = 8
"""Keys of a row that are kept for HeadVis' format."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of one forward. valid: False on padding (None: none). start: first column whose row counts."""

    tokens: Int[Tensor, "b n"]
    valid: Bool[Tensor, "b n"] | None = None
    start: int = 0
    words: Int[Tensor, "b n"] | None = None  # the place of each token in the list of words whose mass is wanted
    n_words: int = 0

    def part(self, rows: slice) -> Batch:
        """Some of the texts."""
        cut = {f: None if (x := getattr(self, f)) is None else x[rows] for f in ("tokens", "valid", "words")}
        return replace(self, **cut)

    @property
    def text(self) -> Bool[Tensor, "b n"]:
        """Columns that are no padding."""
        return torch.ones_like(self.tokens, dtype=torch.bool) if self.valid is None else self.valid

    @property
    def rows(self) -> Bool[Tensor, "b n"]:
        """Rows that count."""
        return self.text & (torch.arange(self.tokens.shape[1], device=self.tokens.device) >= self.start)

    @property
    def seconds(self) -> Bool[Tensor, "b n"]:
        """Rows that have a token before them."""
        return self.rows & torch.nn.functional.pad(self.text[:, :-1], (1, 0))

    @property
    def again(self) -> Bool[Tensor, "b n"]:
        """Rows whose token stood in their text before."""
        out = []
        for row, text in zip(self.tokens.tolist(), self.text.tolist(), strict=True):
            seen: set[int] = set()
            flags = []
            for token, here in zip(row, text, strict=True):
                flags.append(here and token in seen)
                seen |= {token} if here else set()
            out.append(flags)
        return torch.tensor(out, device=self.tokens.device) & self.rows


def pattern_probes(batch: Batch, thumbnail: int = 0) -> list[Probe]:
    """The two readings of the pattern; the whole one gives a picture, too, where a side is asked for."""
    queries, keys = token_labels(batch.tokens, batch.valid)
    keys = torch.cat([keys, keys[:, 1:]], 1)
    matches = Matches(queries, keys, (0.0, 0.0, FAINT))
    first = batch.text.int().argmax(-1)
    spans = torch.stack([first, first + 1], -1)[:, None]
    want = Reductions(offsets=(0, 1), entropy=True, profile=True, moments=True, matches=matches, received=True)

    def ask(mask: CompactMask) -> Reductions:
        return replace(want, spans=spans.to(mask.device), thumbnail=thumbnail)

    raw = Probe(RAW, asks=ask, reads=partial(_read, batch, False), gathers=dict, leaves=0.0)
    rest = Probe(REST, asks=lambda mask: want, reads=partial(_read, batch, True), gathers=dict, leaves=0.0)
    return [raw, without_sinks(rest, RULE, REST)]


def _read(batch: Batch, hidden: bool, s: Statistics, mask: CompactMask) -> Found:
    """Sums over the rows of one layer, [b, heads] by name; `profile` has bins behind."""
    assert s.profile is not None and s.at_offset is not None and s.entropy is not None and s.received is not None
    assert s.moments is not None and s.matched is not None
    profile = s.profile.double()
    total, rows = profile.sum(-1), batch.rows.to(mask.device)[:, None]
    live = rows & (total >= LEAST_LEFT) if hidden else rows.expand_as(total)
    share = torch.where(live, 1 / total.clamp_min(LEAST_LEFT), 0.0) if hidden else live.double()

    def over(x: Tensor, among: Tensor | None = None) -> Tensor:
        weight = share if among is None else share * among.to(mask.device)[:, None]
        return (x.double() * weight).sum(-1)

    def count(among: Tensor) -> Tensor:
        return (live & among.to(mask.device)[:, None]).double().sum(-1)

    entropy = s.entropy.double()
    if hidden:  # of the renormalised row
        safe = total.clamp_min(LEAST_LEFT)
        entropy = torch.where(live, (entropy / safe + safe.log()).clamp_min(0), 0.0)
    echo = (s.matched[..., 0].double() - s.at_offset[..., 0]).clamp_min(0)
    found = {
        "rows": live.double().sum(-1), "dropped": (rows & ~live).double().sum(-1), "mass": (total * rows).sum(-1),
        "self": over(s.at_offset[..., 0]), "previous": over(s.at_offset[..., 1], batch.seconds),
        "previous_rows": count(batch.seconds), "entropy": (entropy * live).sum(-1),
        "distance": over(s.moments[..., 0]), "distance2": over(s.moments[..., 1]),
        "copies": count(batch.again), "echo": over(echo, batch.again),
        "induction": over(s.matched[..., 1], batch.again), "strong_induction": over(s.matched[..., 2], batch.again),
        "near": over(profile[..., : NEAR.bit_length()].sum(-1)), "profile": (profile * share[..., None]).sum(-2),
    }  # fmt: skip
    return found | _further(batch, s, mask, hidden, rows)


def _further(batch: Batch, s: Statistics, mask: CompactMask, hidden: bool, rows: Tensor) -> Found:
    """What only one of the two readings gives."""
    assert s.received is not None
    if not hidden:
        assert s.mass is not None
        out = {"first": (s.mass[..., 0].double() * rows).sum(-1)}
        return out if s.thumbnail is None else out | {"thumbnail": s.thumbnail[:, :, 0]}
    assert s.left_out is not None
    first = batch.text.int().argmax(-1).to(mask.device)
    at = torch.arange(s.left_out.shape[-1], device=mask.device) == first[:, None]
    out = {
        "sinks": s.left_out.double().sum(-1), "hidden_sinks": (s.left_out & ~at[:, None]).double().sum(-1),
    }  # fmt: skip
    if batch.words is None:
        return out
    _, seeing = even_columns(mask)
    mass = s.received.double() * seeing[:, None].to(s.received.device)
    words = batch.words.to(mask.device)[:, None].expand_as(mass)
    held = torch.zeros(*mass.shape[:2], batch.n_words, dtype=torch.float64, device=mask.device)
    return out | {"words": held.scatter_add(-1, words, mass).sum(0, keepdim=True).float()}


@torch.no_grad()
def read_patterns(model: Model, batch: Batch, thumbnail: int = 0, sequences: int = 0) -> dict[str, np.ndarray]:
    """All sums of a batch, texts first: `raw.entropy`, `without sinks.entropy`, …

    thumbnail: blocks a side of a picture of each text. sequences: first texts whose top keys are kept, `keys` and
    `weights`, [texts, layers, heads, rows, 8]. As many texts at a time as the model's memory holds.
    """

    def some(rows: slice) -> dict[str, np.ndarray]:
        return _read_part(model, batch.part(rows), thumbnail, max(0, sequences - rows.start))

    return joined(in_parts(model, "the atlas", len(batch.tokens), _bytes(model, batch, thumbnail, sequences), some))


def _bytes(model: Model, batch: Batch, thumbnail: int, sequences: int) -> int:
    """What a text takes: to observe it, and in float64 numbers of all rows of a layer, twice; masses by word."""
    one = batch.part(slice(0, 1))
    numbers = 2 * 8 * NUMBERS * batch.tokens.shape[1] + (8 + 4 * model.n_layers) * batch.n_words
    return row_bytes(model, one.tokens, _asked(one, thumbnail, sequences)) + model.n_heads * numbers


def _asked(batch: Batch, thumbnail: int, sequences: int) -> list[Probe]:
    few = [top_keys(min(KEPT_KEYS, batch.tokens.shape[1]))] if sequences else []
    return [*pattern_probes(batch, thumbnail), *few]


def _read_part(model: Model, batch: Batch, thumbnail: int, sequences: int) -> dict[str, np.ndarray]:
    seen = observe(model, batch.tokens, _asked(batch, thumbnail, sequences), batch.valid)
    out = {f"{v}.{name}": _by_text(x) for v in VERSIONS for name, x in seen[v].items()}
    if sequences:
        top = seen["top_keys"]
        out["keys"] = _by_text(top.indices[:, :sequences].int())
        out["weights"] = _by_text(top.values[:, :sequences].half())
    return out


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches put together, texts of one length."""
    return {name: np.concatenate([p[name] for p in parts if name in p]) for name in parts[0]}


def version(sums: dict[str, np.ndarray], which: str) -> dict[str, Float[np.ndarray, "texts layers heads"]]:
    """The sums of one version."""
    start = f"{which}."
    return {name.removeprefix(start): x for name, x in sums.items() if name.startswith(start)}


def _by_text(x: Tensor) -> np.ndarray:
    return x.transpose(0, 1).cpu().numpy()
