"""What the heads of a circuit do apart from their effect: where they attend, what they write, what they find again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.models import Model
from workbench.observation import observe
from workbench.patching import written_tokens
from workbench.probes import mass
from workbench.probes.repeats import repeat_scores
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows

ATTENDED = 0.3
"""Mean attention from which a head counts as attending to a label."""
TOP = 5
"""Tokens that a head raises or lowers most, among which the attended one is sought."""
SHOWN = 3
"""Labels that the evidence of a head names."""
REPEATED = 256
"""Tokens of the text of repeated words, at most."""

FAINT = 0.05
"""Attention from which a further label is named."""
RELATIONS = ("the same word", "what followed it", "the token before")

Map = Float[np.ndarray, "layers heads"]


@dataclass
class Evidence:
    """Asked of the model when needed and kept. Clean prompts; all numbers are means over them.

    Attention is from the last token of a label to the span of another. Scores on repeated tokens take the words that
    stand at the labels, since a head may care for names only.
    """

    model: Model
    prompts: Sequence[CircuitPrompt]
    batch: int
    seed: int

    def __post_init__(self) -> None:
        """Labels that all prompts have."""
        self.labels = tuple(x for x in self.prompts[0].spans if all(x in p.spans for p in self.prompts))
        self._attends: dict[str, Float[np.ndarray, "layers heads labels"]] = {}
        self._written: dict[tuple[str, bool], Map] = {}
        self._words: dict[int, str] = {}

    def attends(self, label: str) -> Float[np.ndarray, "layers heads labels"]:
        """Mean attention from a label to each of `labels`."""
        if label not in self._attends:
            there = [p for p in self.prompts if label in p.spans]
            found: list[np.ndarray] = []
            for rows in self._batches(there):
                spans = [[tuple(row[x]) for x in self.labels] for row in rows.spans]
                probe = mass(spans, [[int(c)] for c in rows.at(label)])
                got = observe(self.model, rows.clean, [probe], attention_mask=rows.mask)["mass"]
                found.append(got[:, :, :, 0].double().cpu().numpy())
            self._attends[label] = np.concatenate(found, 1).mean(1)
        return self._attends[label]

    def attended(self, label: str, head: tuple[int, int]) -> dict[str, float]:
        """The labels that a head attends to most from a label, the largest first."""
        values = self.attends(label)[head]
        order = sorted(range(len(self.labels)), key=lambda i: -values[i])[:SHOWN]
        return {self.labels[i]: float(values[i]) for i in order if i == order[0] or values[i] >= FAINT}

    def relation(self, label: str, attended: str) -> str:
        """What most prompts have at the attended label, seen from the other: one of RELATIONS, or nothing."""
        hits = dict.fromkeys(RELATIONS, 0)
        for p in self.prompts:
            if label in p.spans:
                own, there = p.spans[label][1] - 1, p.spans[attended][1] - 1
                hits["the same word"] += there < own and p.clean[there] == p.clean[own]
                hits["what followed it"] += 0 < there <= own and p.clean[there - 1] == p.clean[own]
                hits["the token before"] += there == own - 1
        most = max(hits, key=lambda k: hits[k])
        return most if hits[most] > len(self.prompts) / 2 else ""

    def copies(self, label: str, lowered: bool = False) -> Map:
        """Share of prompts where a head that attends to a label only raises (lowers) that very word most, top 5."""

        def hits(tops: Int[Tensor, "b layers heads k"], rows: Any) -> np.ndarray:
            held = rows.clean.gather(1, rows.at(label)[:, None].to(rows.clean.device))[:, 0].tolist()
            return np.stack([self._same(ids, own) for ids, own in zip(tops, held, strict=True)])

        return self._top_tokens(label, lowered, hits)

    @property
    def says(self) -> Map:
        """Share of prompts where what a head writes raises the answer most, top 5."""

        def hits(tops: Int[Tensor, "b layers heads k"], rows: Any) -> np.ndarray:
            return (tops == rows.answers[:, :1, None, None].to(tops.device)).any(-1).cpu().numpy()

        return self._top_tokens("", False, hits)

    @cached_property
    def repeats(self) -> dict[str, Map]:
        """Echo (duplicate token), induction and previous-token scores on the words of the labels, repeated."""
        words = {t for p in self.prompts for a, b in p.spans.values() for t in p.clean[a:b]}
        found = repeat_scores(self.model, min(self.model.context, REPEATED), self.seed, sorted(words))
        return {"echo": found.echo, "induction": found.induction, "previous": found.previous}

    def _top_tokens(self, label: str, lowered: bool, hits: Any) -> Map:
        key = (label, lowered)
        if key not in self._written:
            found = []
            for rows in self._batches(self.prompts):
                source = rows.at(label) if label else None
                out = written_tokens(self.model, rows.clean, source, TOP, rows.mask)
                found.append(hits(out.lowest if lowered else out.highest, rows))
            self._written[key] = np.concatenate(found).mean(0)
        return self._written[key]

    def _batches(self, prompts: Sequence[CircuitPrompt]) -> Iterable[Any]:
        for start in range(0, len(prompts), self.batch):
            yield circuit_rows(prompts[start : start + self.batch]).to(self.model.device)

    def _same(self, ids: Int[Tensor, "layers heads k"], own: int) -> np.ndarray:
        """Whether a word is among others, up to spaces and capitals."""
        unique, place = torch.unique(ids, return_inverse=True)
        same = np.array([self._word(int(i)) == self._word(own) for i in unique])
        return np.asarray(same[place.cpu().numpy()].any(-1))

    def _word(self, token: int) -> str:
        if token not in self._words:
            self._words[token] = self.model.tokenizer.decode([token]).strip().casefold()
        return self._words[token]
