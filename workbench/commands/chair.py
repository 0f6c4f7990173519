"""`workbench chair captions.jsonl coco=PATH`: how much captions invent, whoever wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.tasks.chair import Chair

SHOWN = 8
"""Objects in the list of what is invented most."""


@chz.chz
class ChairConfig:
    """Captions of a model, and what COCO says is in the images."""

    captions: str = chz.field(doc="file of captions: JSONL with image_id and caption, or a JSON list of such objects")
    coco: str = chz.field(doc="instances_*.json, or the folder of COCO's annotations (human captions are used, too)")
    synonyms: str | None = chz.field(default=None, doc="file of synonyms, a line an object; default: our own table")


@dataclass(frozen=True)
class Scored:
    """The figures, and which objects were invented how often."""

    chair: Chair
    invented: tuple[tuple[str, int], ...]

    def __rich__(self) -> Any:
        """A table, then what was invented most."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        c = self.chair
        for name, value, what in (
            ("CHAIR_S", f"{c.chair_s:.1%}", f"of {c.captions:,} captions name an object that is not there"),
            ("CHAIR_I", f"{c.chair_i:.1%}", "of all mentions of objects"),
            ("CHAIR_I distinct", f"{c.chair_i_distinct:.1%}", "each object once a caption"),
            ("recall", f"{c.recall:.1%}", "of the objects in the images are named"),
            ("precision, F1", f"{c.precision:.1%}, {c.f1:.1%}", "of distinct objects"),
            ("length", f"{c.length:.1f}", "words a caption"),
            ("unique words", f"{c.unique_words:.2f}", "of a caption's words"),
            ("repeated sentences", f"{c.repeated_sentences:.1%}", "said before in the same caption"),
        ):
            table.add_row(Text(name), Text(value, justify="right"), Text(what, style="dim"))
        most = ", ".join(f"{word} {n}" for word, n in self.invented[:SHOWN]) or "nothing"
        return Group(table, Text(f"invented most: {most}"))

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**self.chair.summary(), "invented": dict(self.invented)}


def run(config: ChairConfig) -> Scored:
    """Score the file. Raises BadInput in one line for files of another format and images that COCO does not list."""
    from collections import Counter

    from workbench.tasks.chair import chair, judge
    from workbench.tasks.coco import read_captions, read_coco
    from workbench.tasks.object_words import object_words

    words = object_words(config.synonyms)
    captions = read_captions(config.captions)
    truth = read_coco(config.coco, words)
    missing = [c.image for c in captions if c.image not in truth]
    if missing:
        raise BadInput(
            f"{config.captions}: {len(missing)} of {len(captions)} captions are of images that coco={config.coco} does "
            f"not list, the first is image {missing[0]}"
        )
    judged = judge(captions, truth, words)
    invented = Counter(m.object for j in judged for m in j.invented)
    return Scored(chair(judged), tuple(invented.most_common()))


COMMAND = Command(
    "chair", "score captions: invented objects beside recall, length and repetition", ChairConfig, run,
    positional=("captions",),
)  # fmt: skip
