"""What a model is shown: rendered scenes, or the user's pictures with COCO's word for what is in them; in three sets.

Heads are scored on one set, strengths of interventions are chosen on another, and a third is reported: no picture is in
two of them. Scenes come in two kinds, ordinary and counterfactual; pictures in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, Unsupported
from workbench.tasks.coco import image_key, read_coco
from workbench.tasks.object_words import Words, object_words
from workbench.tasks.pope import Frequencies
from workbench.tasks.scenes import Scene, scenes

if TYPE_CHECKING:
    from PIL.Image import Image

PURPOSES = ("score", "choose", "report")
ORDINARY, COUNTERFACTUAL, PICTURES = "ordinary", "counterfactual", "pictures"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What these hold: under any name, Pillow would give PostScript to Ghostscript."""
HABIT = 500
"""Training scenes from which it is counted what goes with what."""
LEAST = 2
"""Pictures in a set: one alone has no interval."""


@dataclass(frozen=True, eq=False)
class Sight:
    """A picture. name: unique. objects: what is in it, by words of the table. scene: if it was rendered; path: if not."""

    name: str
    objects: tuple[str, ...]
    scene: Scene | None = None
    path: Path | None = None

    @property
    def image(self) -> Image:
        """The picture as processors take it."""
        return self.scene.image if self.scene is not None else opened(self.path)

    @property
    def digest(self) -> str:
        """Of its bytes: a file may be another one under the same name."""
        data = self.scene.pixels.tobytes() if self.scene is not None else Path(str(self.path)).read_bytes()
        return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Sets:
    """Sights by purpose (score, choose, report) and kind; habit: what goes with what; words: the table of objects.

    source: where they are from. skipped: files that could not be read, a line each.
    """

    of: Mapping[str, Mapping[str, tuple[Sight, ...]]]
    habit: Frequencies
    words: Words
    source: str
    skipped: tuple[str, ...] = ()

    def __getitem__(self, purpose: str) -> Mapping[str, tuple[Sight, ...]]:
        return self.of[purpose]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of sights, the ordinary ones first."""
        return tuple(self.of["report"])

    @property
    def rendered(self) -> bool:
        """Whether they are scenes, of which an ideal observer knows how sure one can be."""
        return COUNTERFACTUAL in self.kinds


def sets(config: Any) -> Sets:
    """The three sets that a config asks for (images, coco, synonyms, unreadable, samples, choose, report, seed).

    Raises BadInput in one line for files that cannot be read and pictures that COCO does not list.
    """
    return rendered(config) if config.images is None else photographed(config)


def rendered(config: Any) -> Sets:
    """Scenes, as many of each kind as asked for."""
    of = {
        purpose: {
            kind: tuple(
                Sight(s.name, s.objects, scene=s)
                for s in scenes(purpose, _count(config, purpose), config.seed, kind == COUNTERFACTUAL)
            )
            for kind in (ORDINARY, COUNTERFACTUAL)
        }
        for purpose in PURPOSES
    }
    habit = Frequencies.of(s.objects for s in scenes("train", HABIT))
    return Sets(of, habit, object_words(), "rendered scenes")


def photographed(config: Any) -> Sets:
    """Files of a folder, in an order that the seed decides, dealt to the sets in proportion where they are too few."""
    if config.coco is None:
        raise BadInput(f"images={config.images}: give coco=, COCO's annotations, which say what is in the pictures")
    words = object_words(config.synonyms)
    truth = read_coco(config.coco, words)
    files = picture_files(config.images)
    unlisted = [f.name for f in files if image_key(f.name) not in truth]
    if unlisted:
        raise BadInput(
            f"images={config.images}: {len(unlisted)} of {len(files)} pictures are not listed by coco={config.coco}, the "
            f"first is {unlisted[0]}"
        )
    files.sort(key=lambda f: hashlib.sha256(f"{config.seed}/{f.name}".encode()).digest())
    asked = {purpose: _count(config, purpose) for purpose in PURPOSES}
    found, skipped = readable(files, sum(asked.values()), config.unreadable)
    of, start = {}, 0
    for purpose, n in _dealt(asked, len(found)).items():
        part, start = found[start : start + n], start + n
        of[purpose] = {PICTURES: tuple(Sight(f.name, tuple(sorted(truth[image_key(f.name)])), path=f) for f in part)}
    return Sets(of, Frequencies.of(truth.values()), words, str(config.images), tuple(skipped))


def picture_files(folder: str | Path) -> list[Path]:
    """Pictures of a folder by name. Raises BadInput where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"images={folder}: no such folder")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in ENDINGS)
    if not files:
        raise BadInput(f"images={folder}: no picture in it ({', '.join(ENDINGS)})")
    return files


def readable(files: Sequence[Path], n: int, unreadable: str) -> tuple[list[Path], list[str]]:
    """The first n files that can be read, and a line on each that cannot. Raises BadInput for it if it is to be refused."""
    good: list[Path] = []
    bad: list[str] = []
    for file in files:
        if len(good) == n:
            break
        try:
            opened(file)
            good.append(file)
        except BadInput as error:
            if unreadable == "refuse":
                raise BadInput(f"{error}; unreadable=skip goes on without it") from None
            bad.append(str(error))
    return good, bad


def opened(path: Path | None) -> Image:
    """A picture file in red, green and blue. Raises BadInput, with its name, if it cannot be read."""
    try:
        from PIL import Image
    except ImportError:
        raise Unsupported("pictures need pillow: pip install pillow") from None
    try:
        with Image.open(str(path), formats=FORMATS) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path}: cannot be read as a picture ({' '.join(str(error).split())})") from None


def _dealt(asked: Mapping[str, int], n: int) -> dict[str, int]:
    """As many for each purpose as asked, or in that proportion where there are fewer."""
    total = sum(asked.values())
    if n < LEAST * len(asked):
        raise BadInput(f"images: {n} pictures can be read; three sets need at least {LEAST * len(asked)}")
    if n >= total:
        return dict(asked)
    out = {purpose: max(LEAST, n * k // total) for purpose, k in asked.items()}
    most = max(out, key=lambda purpose: out[purpose])
    return {**out, most: out[most] + n - sum(out.values())}


def _count(config: Any, purpose: str) -> int:
    return int(getattr(config, {"score": "samples"}.get(purpose, purpose)))
