"""The honest table: curves read by hand, planted methods, and the whole of it on a few scenes of the bundled llava."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from workbench_analyses.visual import honest_table as home
from workbench_analyses.visual import table_blocks
from workbench_analyses.visual.arms import Arms
from workbench_analyses.visual.controls import chosen_strength
from workbench_analyses.visual.honest_table import counts, honest_table
from workbench_analyses.visual.matched import Curve, Place, Points, at_recall, chosen_place, compare, points, resampled
from workbench_analyses.visual.table_config import TableConfig
from workbench_analyses.visual.table_parts import ModelTable
from workbench_analyses.visual.table_result import HonestTable

import workbench as wb
from workbench import images, visual, visual_methods
from workbench.budget import FewerRows
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.interventions import Intervention, scale
from workbench.tasks.chair import Caption, chair, judge
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import describing
from workbench.visual_methods import VisualMethod

LONGEST = 14
METHODS = ("amplify", "by-divergence", "sinks-to-evidence")


def curve(recall: list[float], invented: list[float]) -> Points:
    return Points(np.array([recall]), np.array([invented]))


def at(recall, invented, place: float, target: float, limited: bool = True) -> float:
    return float(at_recall(curve(recall, invented), Place(place, limited), np.array([target]))[0])


def test_shares_by_hand():
    """Three strengths, two images: (named, right, shown)."""
    held = np.array([[[4, 3, 5], [2, 2, 5]], [[3, 3, 5], [1, 1, 5]], [[0, 0, 5], [0, 0, 5]]])
    found = points(held)
    assert found.recall.tolist() == [[0.5, 0.4, 0.0]] and found.invented[0] == pytest.approx([1 / 6, 0, 0])
    twice = points(held, np.array([[2.0, 0.0], [0.0, 2.0]]))
    assert twice.recall[:, 0] == pytest.approx([0.6, 0.4]) and twice.invented[:, 0] == pytest.approx([0.25, 0])
    weights = resampled(7, 50, 0)
    assert weights.shape == (50, 7) and (weights.sum(1) == 7).all() and len(np.unique(weights, axis=0)) > 40


def test_a_falling_curve_is_read_between_its_strengths():
    recall, invented = [0.90, 0.88, 0.80], [0.30, 0.20, 0.10]
    assert chosen_place(curve(recall, invented), 0.0) == Place(0.0, False), "any strength loses recall"
    assert chosen_place(curve(recall, invented), 0.01) == Place(pytest.approx(0.5), True)
    assert chosen_place(curve(recall, invented), 0.03) == Place(pytest.approx(1 + 0.01 / 0.08), True)
    assert at(recall, invented, 0.5, 0.89) == pytest.approx(0.25)
    for place in (0.1, 0.7, 1.0, 2.0):  # wherever it begins, the same place is found
        assert at(recall, invented, place, 0.87) == pytest.approx(0.2 - 0.1 / 8)
    assert at(recall, invented, 0.0, 0.87, False) == 0.3, "where no strength helped the plain model stands"
    assert at(recall, invented, 1.0, 0.87, False) == 0.2, "more was not wanted"
    assert at(recall, invented, 2.0, 0.87, False) == pytest.approx(0.2 - 0.1 / 8), "back to the recall asked"


def test_recall_that_rises_first():
    recall, invented = [0.80, 0.86, 0.84, 0.70], [0.30, 0.25, 0.15, 0.05]
    place = chosen_place(curve(recall, invented), 0.0)
    assert place == Place(pytest.approx(2 + 0.04 / 0.14), True), "the strongest that keeps the recall"
    assert at(recall, invented, place.at, 0.80) == pytest.approx(0.15 - 0.1 * 0.04 / 0.14)
    assert at(recall, invented, 1.0, 0.80) == pytest.approx(0.15 - 0.1 * 0.04 / 0.14), "on, not back to the plain model"


def test_a_curve_that_keeps_its_recall():
    recall, invented = [0.8, 0.8, 0.8], [0.3, 0.2, 0.25]
    for drop in (0.0, 0.01):
        assert chosen_place(curve(recall, invented), drop) == Place(1.0, drop == 0)
    assert at(recall, invented, 1.0, 0.80) == 0.2
    assert at(recall, invented, 1.0, 0.79) == 0.2, "at its own higher recall"


def test_only_what_was_chosen_on_other_pictures_is_read():
    """The best strength of the reported pictures is not looked for."""
    report = curve([0.8, 0.8, 0.8], [0.3, 0.31, 0.1])
    place = chosen_place(curve([0.8, 0.8, 0.8], [0.3, 0.2, 0.25]), 0.0)
    assert at_recall(report, place, np.array([0.8]))[0] == 0.31


def planted(images: int, seed: int, **means) -> list[Curve]:
    """Plain captions of 4 objects there, 3.2 of them named, and 1 invented half of the time; means change the counts."""
    rng = np.random.default_rng(seed)
    named = rng.binomial(4, 0.8, images)
    false = rng.binomial(2, 0.5, images)
    plain = np.stack([named + false, named, np.full(images, 4)], 1)
    out = []
    for name, change in means.items():
        each = np.stack([plain, *(change(plain, k / 3, rng) for k in (1, 2, 3))])
        half = images // 2
        out.append(Curve(name, (0.0, 1.0, 2.0, 3.0), each[:, :half], each[:, half:], name == "shorter"))
    return out


def halves(plain, part, rng):
    """Invents up to half as much, names the same."""
    false = plain[:, 0] - plain[:, 1]
    return np.stack([plain[:, 1] + false - rng.binomial(false, part / 2), plain[:, 1], plain[:, 2]], 1)


def shortens(plain, part, rng):
    """Loses a share of everything that it names."""
    right, false = (x - rng.binomial(x, part / 3) for x in (plain[:, 1], plain[:, 0] - plain[:, 1]))
    return np.stack([right + false, right, plain[:, 2]], 1)


def cuts_last(plain, part, rng):
    """Loses invented and right objects, invented ones somewhat sooner: a shorter caption where inventions come late."""
    right, false = plain[:, 1] - rng.binomial(plain[:, 1], part / 4), plain[:, 0] - plain[:, 1]
    false = false - rng.binomial(false, part / 2)
    return np.stack([right + false, right, plain[:, 2]], 1)


def test_planted_methods():
    found = compare(planted(600, 1, shorter=cuts_last, truly=halves, short=shortens, same=cuts_last), draws=400)
    better = {name: [c.better for c in found if c.method == name] for name in ("truly", "short", "same")}
    assert better["truly"] == [True, True, True]
    assert not any(better["short"]), "a method that shortens captions is not better"
    assert not any(better["same"]), "no more than the trivial means do"
    same = next(c for c in found if c.method == "same" and c.drop == 0.03)
    assert same.against_base[2] < 0, "though it invents less than the plain model"
    truly = next(c for c in found if c.method == "truly" and c.drop == 0.0)
    assert truly.place == 3.0 and truly.strength == 3.0 and truly.invented == pytest.approx(truly.base / 1.8, rel=0.2)
    assert truly.baseline == "shorter"
    assert [c.kept for c in found if c.method == "truly"] == [False, True, True], (
        "its recall is that of the plain model"
    )


def test_no_method_is_better_by_chance():
    """Of forty that only reshuffle which object is invented, few are."""
    hits = 0
    for seed in range(40):

        def noise(plain, part, rng):
            false = rng.binomial(2, 0.5, len(plain))
            return np.stack([plain[:, 1] + false, plain[:, 1], plain[:, 2]], 1)

        hits += any(c.better for c in compare(planted(120, seed, shorter=cuts_last, noise=noise), draws=200))
    assert hits <= 4


def compared(method: str, better: bool, drop: float = 0.01, beside=None):
    [one] = [c for c in compare(planted(200, 0, shorter=shortens, x=halves), (drop,), 50)]
    interval = (-0.1, -0.2, -0.05) if better else (-0.1, -0.2, 0.01)
    return replace(one, method=method, against_base=interval, against_baseline=interval, beside=beside)


def table(*of: list) -> HonestTable:
    return HonestTable(
        tuple(ModelTable(f"m{i}", [], held) for i, held in enumerate(of)), TableConfig(), {"ordinary": 9}
    )


def test_the_sentence_follows_the_seeds():
    yes, no = ({"ordinary": [compared("route", b)]} for b in (True, False))
    one, two, three = table(yes), table(yes, yes), table(yes, no, yes)
    told = "On ordinary pictures nothing is shown; in this training route (at −1) invents less than the plain model"
    assert one.sentence.startswith(told) and "in both trainings route (at −1)" in two.sentence
    assert "One training seed cannot show it: that takes 2 of 3." in one.sentence
    assert three.sentence.startswith("On ordinary pictures route (at −1) invents less than the plain model")
    assert three.found and not one.found and not two.found and not table(yes, no, no).found
    for negative in (table(no), table(yes, no), table(yes, no, no), table(yes, yes, yes, no, no, no)):
        assert negative.sentence.startswith("On ordinary pictures none of 1 methods invents less")
    assert "at least 2 of 3 training seeds agree" in table(no, no, yes).sentence
    six = table(yes, no, yes, yes, no, yes)
    assert six.found and "at least 4 of 6 training seeds agree" in six.sentence
    assert table(yes).sentence_on_heads == ""
    lower, equal = (
        {"ordinary": [compared("by-contrast", False, beside=(-1, low, high))]} for low, high in ((-2, -1), (-2, 1))
    )
    one, three = table(lower).sentence_on_heads, table(lower, lower, equal).sentence_on_heads
    assert one.startswith("Strengths of each head's own invent less") and three.startswith(one[:50])
    assert one.endswith("One training seed cannot show it: that takes 2 of 3.") and "cannot" not in three
    assert table(equal).sentence_on_heads.startswith("No strength of each head's own (by-contrast)")


def test_methods_of_any_model_are_told():
    first = ModelTable("m0", [], {"ordinary": [compared("route", True)]}, left_out={"suppress": "no scores"})
    second = ModelTable(
        "m1", [], {"ordinary": [compared("route", True), compared("suppress", False)]}, layers={"suppress": (0, 1)},
        left_out={"two-strength": "no tower"}, measures={"suppress": "log"},
    )  # fmt: skip
    both = HonestTable((first, second), TableConfig(), {"ordinary": 9})
    assert both.methods == ("route", "suppress")
    facts = table_blocks._asked(both)
    assert facts["suppress, not asked of m0"] == "no scores" and facts["two-strength, not asked of m1"] == "no tower"
    assert "Layers 0–1; heads by causal contrast of log" in facts["suppress"]


def test_counts_are_of_different_objects():
    judged = judge([Caption("a", "a cup , a cup , a tv . a cup")], {"a": ["cup", "fork"]})
    assert counts(judged).tolist() == [[2, 1, 2]]


@pytest.fixture(scope="module")
def model():
    return wb.load("llava")


@pytest.fixture(scope="module")
def sets():
    return {
        part: {
            kind: scenes(part, 4, counterfactual=kind == "counterfactual") for kind in ("ordinary", "counterfactual")
        }
        for part in ("choose", "report")
    }


def head_scores() -> dict[str, HeadScores]:
    rng = np.random.default_rng(0)
    return {n: HeadScores(rng.normal(size=(4, 8)), n) for n in ("vhd", "causal_contrast", "image_mass")}


@pytest.fixture(scope="module")
def whole(model, sets):
    kept: dict[str, tuple] = {}

    def remember(unit, work):
        if unit not in kept:
            arrays, meta = work()
            kept[unit] = (arrays, json.loads(json.dumps(meta)))
        return kept[unit]

    steps: list[tuple[int, int]] = []
    config = TableConfig(METHODS, batch=8, longest=LONGEST, controls=1, draws=50)
    found = honest_table(model, head_scores(), sets, config, remember, lambda done, total: steps.append((done, total)))
    return found, kept, steps, remember


def test_the_whole_table(whole, sets, model):
    found, kept, steps, remember = whole
    frame = found.frame()
    means = {"plain", "cut short", "sooner end", "no unsure words", *METHODS} - {"sinks-to-evidence"}
    assert set(frame.means) == means and set(frame.kind) == {"ordinary", "counterfactual"}
    assert "no part of a picture is a sink" in found.tables[0].left_out["sinks-to-evidence"]
    assert {len(frame[frame.means == m].strength.unique()) for m in ("amplify", "by-divergence")} == {6}
    asked = frame.means.isin(["plain", "amplify", "by-divergence"])
    assert frame[asked].pope_accuracy.between(0, 1).all() and frame[~asked].pope_accuracy.isna().all()
    assert steps[-1][0] == steps[-1][1] == len(steps) + 5, "six strengths are left out in one step"
    assert {(c.means, c.control) for c in found.tables[0].controlled} == {
        ("by-divergence", c) for c in ("layers", "anywhere")
    }
    assert found.summary()["sentence"] == found.sentence and "4 reported pictures" in found.sentence
    assert found.tables[0].layers["amplify"] == (0, 1, 2, 3)
    json.dumps(found.summary(), default=str)
    before = set(kept)
    again = honest_table(model, head_scores(), sets, found.config, remember)
    assert set(kept) == before and again.sentence == found.sentence


def told_by(model, group, edit) -> list[Caption]:
    """Captions under an edit, scene by scene."""
    out = []
    for s in group:
        asked = images.prompt(model, describing(model), s.image)
        ids = model.generate(asked.tokens, LONGEST, edits=edit, inputs=asked.inputs)[0]
        out.append(Caption(s.name, model.tokenizer.decode(ids, skip_special_tokens=True)))
    return out


@torch.no_grad()
def test_rows_are_those_of_plain_generation(whole, sets, model):
    """The plain row and one strength against captions that are made here, scene by scene."""
    found, group = whole[0], sets["report"]["counterfactual"]
    every = [(i, h) for i in range(4) for h in range(8)]
    figures = []
    for means, strength, edit in (
        ("plain", 0.0, None),
        ("amplify", 1.0, wb.pai(every, range(1, 17), 1.0, at="decode")),
    ):
        [row] = [
            r for r in found.tables[0].rows if (r.means, r.strength, r.kind) == (means, strength, "counterfactual")
        ]
        assert row.chair == chair(judge(told_by(model, group, edit), {s.name: s.objects for s in group}))
        figures.append(row.chair)
    assert figures[0] != figures[1], "the edit changes what is said"


@torch.no_grad()
def test_a_control_is_that_of_shuffled_scores(whole, sets, model):
    """Of one draw: VHD shuffled within each layer, α by its ranks, captions scene by scene."""
    group = sets["report"]["ordinary"]
    [held] = [c for c in whole[0].tables[0].controlled if (c.kind, c.control) == ("ordinary", "layers")]
    rng, vhd = np.random.default_rng(0), head_scores()["vhd"].values
    shuffled = np.stack([rng.permutation(row) for row in vhd])
    alpha = held.strength * (1 + (shuffled.ravel() < shuffled[..., None]).sum(-1)) / (33 / 2)
    edit = Intervention(tuple(wb.pai([at], range(1, 17), float(alpha[at]), at="decode") for at in np.ndindex(4, 8)))
    hand = chair(judge(told_by(model, group, edit), {s.name: s.objects for s in group}))
    assert held.drawn == ((hand.chair_i_distinct, hand.recall),) and not np.allclose(shuffled, vhd)


def test_a_strength_that_nobody_chose_is_said():
    method = visual_methods.named("suppress")
    [one] = [c for c in compare(planted(200, 0, shorter=shortens, x=halves), (0.01,), 50)]
    none, some = (replace(one, method="suppress", place=p) for p in (0.0, 2.2))
    assert chosen_strength(method, {"a": [none]}) == (6, False) and chosen_strength(method, {"a": [some]}) == (2, True)


def test_blocks_make_a_page(whole):
    from workbench.views.page import Page, Section

    page = Page("Table", "llava", [Section("Table", whole[0].blocks())]).html()
    assert whole[0].sentence.split(";")[0] in page and "At equal recall, counterfactual" in page
    assert "which nobody chose" in page and "Random heads" in page and "Layers 0–3" in page and "not asked" in page


@torch.no_grad()
def test_a_planted_method_on_the_model(model, sets, monkeypatch):
    """Pictures whose invented objects a method drops are called better; one that ends captions sooner is not."""
    many = {
        part: {"counterfactual": scenes(part, 40, seed=5, counterfactual=True)} for part in ("choose", "report")
    }  # fmt: skip
    true = {s.name: set(s.objects) for group in many.values() for s in group["counterfactual"]}

    def edits(asked):
        return scale([(0, 0)], 1.0)

    fakes = [VisualMethod(n, "a fake", "here", tuple(range(1, 7)), 0.0, edits) for n in ("oracle", "shortens")]
    monkeypatch.setattr(home, "_methods", lambda config: fakes)
    monkeypatch.setattr(home.visual_methods, "named", lambda name: next(f for f in fakes if f.name == name))
    plain: dict[str, list[str]] = {}

    def told(arms, method, strength):
        held = plain.setdefault("captions", arms.captions(lambda _: None))
        if method.name == "shortens":
            return {"captions": [" ".join(t.split()[: -2 * strength]) for t in held]}
        rng, out = np.random.default_rng(strength), []
        for place, text in zip(arms.places, held, strict=True):
            words = [w for w in text.replace("a photo of", "").replace(".", "").replace(" a ", " ").split() if w != ","]
            kept = [w for w in words if w in true[place.name] or rng.random() > strength / 6]
            out.append("a photo of " + " , ".join(f"a {w}" for w in kept) + " .")
        return {"captions": out}

    monkeypatch.setattr(home, "told", told)
    found = honest_table(model, {}, many, TableConfig(controls=0, draws=300, questions=0, longest=24))
    assert set(found.shown["counterfactual"]) == {"oracle"} and "oracle (at −0" in found.sentence


def test_a_method_without_its_scores_is_left_out_and_the_rest_is_judged(model, sets, monkeypatch):
    from workbench.views.page import Page, Section

    known = {name: visual_methods.named(name) for name in ("suppress", "amplify")}
    monkeypatch.setattr(visual_methods, "discover", lambda: known)
    few = {part: {"ordinary": group["ordinary"][:2]} for part, group in sets.items()}
    given = {n: s for n, s in head_scores().items() if n != "causal_contrast"}
    config = TableConfig(batch=2, longest=6, controls=1, questions=0, draws=20)
    found = honest_table(model, given, few, config)
    assert found.methods == ("amplify",)
    assert found.tables[0].left_out == {"suppress": "head scores that it needs are missing: causal_contrast"}
    known.pop("amplify")
    found = honest_table(model, given, few, config)
    assert found.sentence == "No method could be asked." and "none of" not in found.sentence
    page = Page("Table", "llava", [Section("Table", found.blocks())]).html()
    assert "No method could be asked" in page and "suppress, not asked" in page


@torch.no_grad()
def test_the_scans_tau_decides_on_sinks(model, sets):
    for tau, held in ((1.5, 1.5), (None, 20 * (96 / 4096) ** 0.5)):
        arms = Arms(model, {}, sets, TableConfig(tau=tau, batch=4))
        first = arms.pictures[0].tokens[:1, :1]
        assert arms.pictures[0].sinks == arms.prompts[0].sinks == arms.sinks
        assert arms.sinks == (pytest.approx(held), visual.sink_dimensions(model, first, held))
        assert bool(arms.sinks[1]) == (tau is not None)


@torch.no_grad()
def test_where_memory_runs_out_arms_show_fewer_pictures_at_a_time(model, sets, narrow):
    arms = [Arms(model, head_scores(), sets, TableConfig(longest=6, batch=12)) for _ in range(2)]
    edits = [one.edits(visual_methods.named("amplify"), 1.3) for one in arms]
    whole = arms[0].plain(), arms[0].captions(edits[0]), arms[0].answers(edits[0])
    assert max(map(len, arms[0].pictures)) == 12
    went = narrow(model, 5)
    with pytest.warns(FewerRows, match="interventions: memory ran out on cpu with 12 rows at a time; going on with 6"):
        plain = arms[1].plain()
    assert (arms[1].captions(edits[1]), arms[1].answers(edits[1])) == whole[1:]
    assert [s.text for s in plain] == [s.text for s in whole[0]] and max(went) == 3 == max(map(len, arms[1].pictures))
    for a, b in zip(plain, whole[0], strict=True):
        np.testing.assert_allclose(a.log_p, b.log_p, rtol=1e-4, atol=1e-5)


def test_scores_that_are_missing(model, sets):
    with pytest.raises(BadInput, match="route needs the head scores image_mass"):
        honest_table(model, {}, sets, TableConfig(("route",), longest=3, questions=0))
    with pytest.raises(BadInput, match="Did you mean 'route'"):
        honest_table(model, {}, sets, TableConfig(("rout",)))


def test_other_seeds_are_other_trainings(model, tmp_path):
    import tiny_models
    from workbench_analyses.visual import other_seeds
    from workbench_analyses.visual_heads import ScanVisual, scan

    with pytest.raises(BadInput, match="seeds=llava: these weights are already asked"):
        other_seeds.loaded(ScanVisual(seeds=("llava",)), model)
    tiny = str(tiny_models.save("llava", tmp_path))
    with pytest.raises(BadInput, match="3 × 8 heads, llava has 4 × 8"):
        other_seeds.loaded(ScanVisual(seeds=(tiny,)), model)
    with pytest.raises(BadInput, match="llama: a model of text alone"):
        scan("llava", seeds=("llama",))
