"""A picture described again at another strength of a method: as a table of strengths, and with a slider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workbench.errors import BadInput, Unsupported
from workbench.heads import HeadScores
from workbench.images import Prompt
from workbench.tasks.object_words import Words
from workbench.views.image_strip import image_strip, said_html
from workbench.views.text import esc, inline, number
from workbench.visual.looks import Looks, look_at
from workbench.visual.told import LONGEST, tell
from workbench.visual_methods import VisualMethod, method_edits, named
from workbench.visual_methods.pictures import Pictures

_BOX = (
    "font:13px/1.6 system-ui,sans-serif;color:var(--jp-content-font-color1,var(--vscode-editor-foreground,CanvasText))"
)


@dataclass(frozen=True, eq=False, repr=False)
class Redescribing:
    """What a model says of one picture under a method at any strength; see `redescribe`."""

    model: Any
    picture: Any
    objects: frozenset[str] | None
    method: VisualMethod
    scores: Mapping[str, HeadScores]
    text: str
    head: tuple[int, int] | None = None
    longest: int = LONGEST
    words: Words | None = None
    _shown: dict[float, Looks] = field(default_factory=dict)

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self.model, [self.picture], self.text)

    def __repr__(self) -> str:
        return f"Redescribing({self.model.name} under {self.method.name})"

    @property
    def strengths(self) -> list[float]:
        """The method's grid and the strength that changes nothing, in order."""
        return sorted({*self.method.strengths, self.method.neutral})

    def at(self, strength: float) -> Looks:
        """The greedy caption under the method, and what heads looked at under it; kept, once asked for."""
        if strength not in self._shown:
            edits = method_edits(self.method, self._pictures, self.scores, strength)
            told = tell(self.model, Prompt(self._pictures.tokens, self._pictures.inputs), self.longest, edits)
            objects = None if self.objects is None else [self.objects]
            [self._shown[strength]] = look_at(self.model, told, [self.picture], objects, None, edits, self.words)
        return self._shown[strength]

    def html(self, strength: float) -> str:
        """The caption at a strength, and the pictures of the head's attention, if one was chosen."""
        looks = self.at(strength)
        title = f"{self.method.name} at {number(strength, 2)}{self._told(looks)}"
        strip = "" if self.head is None else image_strip(looks, self.head, f"L{self.head[0]}H{self.head[1]}")
        return f'<div style="{_BOX}"><p><b>{esc(title)}</b><br>{said_html(looks.words)}</p>{strip}</div>'

    def _repr_html_(self) -> str:
        """The captions at all strengths of the grid."""
        rows = "".join(
            f'<tr><td style="text-align:right">{number(s, 2)}{" (unchanged)" if s == self.method.neutral else ""}</td>'
            f'<td style="text-align:left">{said_html(self.at(s).words)}</td></tr>'
            for s in self.strengths
        )
        return (
            f'<div style="{_BOX}"><b>{esc(self.method.name)}</b>: {inline(self.method.help)}<table><thead><tr>'
            '<th>strength</th><th style="text-align:left">caption; waves mark what is not in the picture</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )

    def slider(self) -> Any:
        """A slider over the strength that asks the model again when it is let go, and is the table where no kernel runs.

        Raises Unsupported without ipywidgets.
        """
        try:
            import ipywidgets
        except ImportError:
            raise Unsupported('a slider needs ipywidgets: pip install "workbench-interp[notebook]"') from None
        low, high = self.strengths[0], self.strengths[-1]
        knob = ipywidgets.FloatSlider(
            self.method.strengths[len(self.method.strengths) // 2], min=low, max=high, step=(high - low) / 40,
            description="strength", continuous_update=False,
        )  # fmt: skip
        shown = ipywidgets.HTML(self.html(knob.value))
        knob.observe(lambda change: setattr(shown, "value", self.html(change["new"])), "value")
        return Slider(ipywidgets.VBox([knob, shown]), self._repr_html_())

    def _told(self, looks: Looks) -> str:
        invented = sorted({w.object for w in looks.words if w.invented})
        if self.objects is None:
            return ""
        return f": invented {', '.join(invented)}" if invented else ": nothing invented"


@dataclass(frozen=True, eq=False)
class Slider:
    """Widgets that are also plain HTML. box: knob and answer. static: what is shown where no kernel runs."""

    box: Any
    static: str

    def _repr_mimebundle_(self, **rest: Any) -> dict[str, Any]:
        return {**self.box._repr_mimebundle_(**rest), "text/html": self.static}


def redescribe(
    model: Any,
    picture: Any,
    objects: Iterable[str] | None = None,
    method: str = "amplify",
    scores: Mapping[str, HeadScores] | None = None,
    text: str = "",
    head: tuple[int, int] | None = None,
    longest: int = LONGEST,
    words: Words | None = None,
) -> Redescribing:
    """A picture under a method of `workbench.visual_methods`, to be asked at any strength.

    objects: what it shows, by words of the table (COCO's if not given); then invented words are marked. scores: by name,
    for methods that choose heads by them. text: the prompt (default: how `scan-visual` asks this model to describe).
    head: (layer, head) whose attention is laid over the picture. Raises BadInput for an unknown method, missing scores or
    a head that is not there; Unsupported for a model that reads no pictures.
    """
    from workbench.tasks.wording import describing

    chosen = named(method)
    if missing := [name for name in chosen.needs if name not in (scores or {})]:
        raise BadInput(f"{method} needs the head scores {', '.join(missing)}: give scores=")
    if head is not None and not (0 <= head[0] < model.n_layers and 0 <= head[1] < model.n_heads):
        raise BadInput(f"head {tuple(head)} is outside {model.n_layers} x {model.n_heads}")
    there = None if objects is None else frozenset(objects)
    return Redescribing(
        model, picture, there, chosen, dict(scores or {}), text or describing(model), head, longest, words
    )
