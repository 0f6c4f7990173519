"""What a model says under every means at every strength: captions of all pictures, answers about the reported ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch

from workbench import images
from workbench.budget import at_most
from workbench.heads import HeadScores
from workbench.probes.phi import default_tau
from workbench.tasks.pope import Answer, Frequencies, Question, parse, questions
from workbench.tasks.wording import answer_tokens, asking, describing
from workbench.visual.picture_sinks import sink_dimensions
from workbench.visual.sizes import telling_bytes
from workbench.visual.words import text_of
from workbench.visual_methods import VisualMethod, method_edits
from workbench.visual_methods.pictures import Pictures
from workbench.visual_methods.saying import Said, captions, said_surely
from workbench_analyses.visual.table_config import TableConfig

STRATEGY = "adversarial"
Edits = Callable[[Pictures], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a caption belongs: the set of its picture (choose or report), its kind and name."""

    purpose: str
    kind: str
    name: str


class Arms:
    """One model before all pictures; prompts, and what methods ask of pictures, are made once and used by every arm."""

    def __init__(self, model: Any, scores: Mapping[str, HeadScores], sets: Any, config: TableConfig) -> None:
        self.model, self.scores, self.config, self.sets = model, scores, config, sets
        sights = [(p, kind, s) for p in ("choose", "report") for kind, group in sets[p].items() for s in group]
        sights.sort(key=lambda at: (at[0], len(at[2].objects)))  # captions of a batch end together
        self.places = [Place(p, kind, s.name) for p, kind, s in sights]
        self.truth = {s.name: s.objects for *_, s in sights}
        self._shown, self._size = [s for *_, s in sights], config.batch

    @cached_property
    def sinks(self) -> tuple[float, list[int]]:
        """Φ of a visual sink and the model's sink dimensions, found as the scores of heads find them."""
        tau = default_tau(int(self.model.bridge.cfg.d_model)) if self.config.tau is None else self.config.tau
        first = images.prompt(self.model, describing(self.model), self._shown[0].image)
        return tau, sink_dimensions(self.model, first.tokens[:1, :1], tau)

    @cached_property
    def _each(self) -> int:
        """Bytes that a picture takes while a caption is told."""
        asked = images.prompt(self.model, describing(self.model), self._shown[0].image)
        return telling_bytes(self.model, asked.tokens.shape[1], self.config.longest)

    @cached_property
    def pictures(self) -> list[Pictures]:
        """All pictures under the instruction, in batches."""
        text, size = describing(self.model), self._size
        return [
            Pictures(self.model, [s.image for s in self._shown[i : i + size]], text, self.sinks)
            for i in range(0, len(self._shown), size)
        ]

    @cached_property
    def asked(self) -> list[tuple[str, Question]]:
        """Kind and question, of the reported pictures; those of one length of words stand together."""
        out = []
        for kind, group in self.sets["report"].items():
            habit = getattr(self.sets, "habit", None) or Frequencies.of(s.objects for s in group)
            shown = {s.name: tuple(s.objects) for s in group}
            n = -(-self.config.questions // 2)
            out += [(kind, q) for q in questions(shown, habit, STRATEGY, n, self.config.seed)] if n else []
        return sorted(out, key=lambda pair: self._length(pair[1].object))

    @cached_property
    def prompts(self) -> list[Pictures]:
        """Questions with their pictures, in batches of equal length."""
        by_name, out, size = {s.name: s for s in self._shown}, [], self._size
        start = 0
        while start < len(self.asked):
            length = self._length(self.asked[start][1].object)
            part = [q for _, q in self.asked[start : start + size] if self._length(q.object) == length]
            shown = [by_name[q.image].image for q in part]
            out.append(Pictures(self.model, shown, [asking(self.model, q.object) for q in part], self.sinks))
            start += len(part)
        return out

    def plain(self) -> list[Said]:
        """Captions without any means, with the probability of each token."""
        return self._fitting(
            lambda: [s for p in self.pictures for s in said_surely(self.model, p, self.config.longest)]
        )

    def captions(self, edits: Edits, purpose: str = "") -> list[str]:
        """Captions under edits, of all pictures or of one set."""

        def told() -> list[str]:
            out: list[str] = []
            for part in self.pictures:
                here = self.places[len(out) : len(out) + len(part)]
                if purpose and all(place.purpose != purpose for place in here):
                    out += [""] * len(part)
                else:
                    out += captions(self.model, part, self.config.longest, edits(part))
            return out

        return self._fitting(told)

    def answers(self, edits: Edits) -> list[str]:
        """Answers to the questions under edits."""
        return self._fitting(lambda: [text for part in self.prompts for text in self._answered(part, edits)])

    def _answered(self, part: Pictures, edits: Edits) -> list[str]:
        said = self.model.generate(part.tokens, answer_tokens(self.model), edits=edits(part), inputs=part.inputs)
        ends = set(self.model.stop_tokens)
        cut = [row[: next((i for i, t in enumerate(row) if t in ends), len(row))] for row in said.tolist()]
        return [text_of(self.model.tokenizer, ids) for ids in cut]

    def _fitting(self, work: Callable[[], T]) -> T:
        """The work with as many pictures in a batch as the memory holds; prompts of other batches are made anew."""

        def dealt(size: int) -> T:
            if size != self._size:
                self._size = size
                for name in ("pictures", "prompts"):
                    self.__dict__.pop(name, None)
            return work()

        return at_most(self.model, "interventions", min(self.config.batch, len(self._shown)), self._each, dealt)

    def edits(self, method: VisualMethod, strength: float, control: str = "", seed: int = 0) -> Edits:
        """What a method does to a batch."""
        return lambda pictures: method_edits(method, pictures, self.scores, strength, control, seed)

    def looks_at(self, method: VisualMethod) -> list[Any]:
        """What of the scores decides what a method gives; those that are missing it says itself."""
        return [self.scores[name].values for name in method.needs if name in self.scores]

    def _length(self, word: str) -> int:
        return len(self.model.tokenizer(asking(self.model, word), add_special_tokens=False)["input_ids"])


def parsed(texts: Sequence[str]) -> list[Answer]:
    """Answers as POPE reads them."""
    return [parse(text) for text in texts]


@torch.no_grad()
def told(arms: Arms, method: VisualMethod, strength: float) -> dict[str, list[str]]:
    """One arm: captions and answers."""
    edits = arms.edits(method, strength)
    return {"captions": arms.captions(edits), "answers": arms.answers(edits)}
