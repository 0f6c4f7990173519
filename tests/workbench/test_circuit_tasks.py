"""Circuit tasks: what stands where, what is corrupted, the published statistics, and what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from word_tokenizers import bpe, words

import workbench as wb
from workbench.errors import BadInput
from workbench.tasks import colored_objects, greater_than, ioi
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows, circuit_tasks, make_prompts
from workbench.tasks.colored_objects import colored_objects_prompts
from workbench.tasks.greater_than import greater_than_prompts
from workbench.tasks.induction import induction_prompts
from workbench.tasks.ioi import ABBA, BABA, NAMES, ioi_prompts, read_mib
from workbench.tasks.spelling import Spelling, filled

DATA = Path(__file__).parents[3] / "shared" / "data" / "circuits"
IOI_WORDS = {"S": "Mary", "IO": "John", "place": "store", "object": "ring"}
FORM = re.compile(
    r"Q: On the (\w+), (there is|you see|I see) (an?) (\w+) (\w+), (an?) (\w+) (\w+), and (an?) (\w+) (\w+)\. "
    r"What color is the (\w+)\?\nA:(?: (\w+)\n)?"
)


def texts():
    """What a vocabulary must hold, each often enough to become a token."""
    for name in NAMES:
        yield from [f"{name} and {name}, {name}"] * 4
    for template in ioi.ORDERS["all"]:
        yield from (filled(template, {**IOI_WORDS, "place": p})[0] for p in ioi.PLACES)
        yield from (filled(template, {**IOI_WORDS, "object": o})[0] for o in ioi.OBJECTS)
    colours = [*colored_objects.COLOURS, *(c.capitalize() for c in colored_objects.COLOURS)]
    yield from ["a " + " ".join((*colored_objects.OBJECTS, *colours, *greater_than.NOUNS))] * 9
    yield from ["Q: On the floor, there is a desk, you see an I see. What color is the table?\nA:"] * 9
    yield from [
        "The war lasted from the year 17 to the year 17\n" + "\n".join(f"{i:02d}" for i in range(0, 100, 2))
    ] * 9
    yield from ["01\n"] * 9


@pytest.fixture(scope="module")
def tokenizer():
    return bpe(texts())


@pytest.fixture(scope="module")
def spoken(tokenizer):
    """What a span of a prompt says, by label."""

    def say(prompt, side="clean"):
        ids = getattr(prompt, side)
        return {label: tokenizer.decode(ids[a:b]).strip() for label, (a, b) in prompt.spans.items()}

    return say


def test_all_tasks_are_found_and_make_pairs_that_match(tokenizer):
    assert list(circuit_tasks()) == ["colored-objects", "greater-than", "induction", "ioi"]
    for name, task in circuit_tasks().items():
        for corruption in task.corruptions:
            made = make_prompts(name, tokenizer, 12, corruption=corruption)
            assert made.task == name and len(made) == 12
            for p in made.prompts:
                assert len(p.clean) == len(p.corrupted) and p.clean != p.corrupted and p.answers[0] != p.answers[1]
                assert p.spans["END"] == (len(p.clean) - 1, len(p.clean))
                assert all(0 <= a < b <= len(p.clean) for a, b in p.spans.values())


@pytest.mark.parametrize("task", ["colored-objects", "greater-than", "induction", "ioi"])
def test_a_seed_is_a_set_of_prompts(tokenizer, task):
    one, two, other = (make_prompts(task, tokenizer, 8, seed) for seed in (5, 5, 6))
    assert one == two and one != other


def test_templates_are_fifteen_of_each_order_and_prompts_are_spread_evenly(tokenizer):
    assert len(set(BABA)) == len(set(ABBA)) == 15 and not set(BABA) & set(ABBA)
    assert len(set(NAMES)) == 99 and sum("{place}" not in t for t in BABA) == 2
    counts = Counter(p.template for p in ioi_prompts(tokenizer, 90).prompts)
    assert set(counts) == {*BABA, *ABBA} and set(counts.values()) == {3}
    mixed = Counter(p.template for p in ioi_prompts(tokenizer, 28, order="mixed").prompts)
    assert set(mixed) == {*BABA[:7], *ABBA[:7]}


@pytest.mark.parametrize("order", ["baba", "abba"])
@pytest.mark.parametrize("bos", [False, True])
def test_ioi_spans_say_their_labels(tokenizer, spoken, order, bos):
    for p in ioi_prompts(tokenizer, 30, 1, order=order, bos=bos).prompts:
        said, at = spoken(p), {label: a for label, (a, _) in p.spans.items()}
        io, s = (tokenizer.decode([i]) for i in p.answers)
        assert [f" {said[x]}" for x in ("IO", "S1", "S2")] == [io, s, s]
        assert (at["S1"] < at["IO"]) == (order == "baba") and at["S2"] > max(at["S1"], at["IO"])
        assert said["END"] == "to" and said["S1+1" if order == "baba" else "IO+1"] == "and"
        assert at["S1+1"] == at["S1"] + 1 and at["IO-1"] == at["IO"] - 1
        assert all(b - a == 1 for a, b in p.spans.values()) and (p.clean[0] == tokenizer.bos_token_id) == bos
        assert tokenizer.decode(p.clean[bos:]) == p.text
        objects = [said[x] for x in said if x.startswith("object")]
        assert len(set(objects)) <= 1 and set(objects) <= set(ioi.OBJECTS)


def test_corruptions_of_ioi_change_what_they_say_and_nothing_else(tokenizer, spoken):
    for corruption, moved in (("s2-io", {"S2"}), ("abc", {"S1", "S2", "IO"})):
        for p in ioi_prompts(tokenizer, 30, 2, corruption=corruption).prompts:
            clean, other = spoken(p), spoken(p, "corrupted")
            assert {x for x in ("IO", "S1", "S2") if clean[x] != other[x]} == moved
            changed = {i for i, (a, b) in enumerate(zip(p.clean, p.corrupted, strict=True)) if a != b}
            assert changed == {p.spans[x][0] for x in moved}
            if corruption == "s2-io":
                assert other["S2"] == clean["IO"]
            else:
                assert len({*(other[x] for x in moved), clean["IO"], clean["S1"]}) == 5


def test_rows_of_different_lengths_are_padded_on_the_left_and_keep_their_labels(tokenizer):
    made = ioi_prompts(tokenizer, 40, 3)
    rows = made.rows()
    lengths = torch.tensor([len(p.clean) for p in made.prompts])
    assert rows.mask is not None
    assert lengths.unique().numel() > 3 and torch.equal(rows.mask.sum(-1), lengths)
    assert (rows.at("END") == rows.clean.shape[1] - 1).all()
    at = rows.at("S2")
    assert torch.equal(rows.clean.gather(1, at[:, None])[:, 0], rows.answers[:, 1])
    assert torch.equal(rows.corrupted.gather(1, at[:, None])[:, 0], rows.answers[:, 0])
    assert "object" not in rows.labels and {"S1+1", "IO-1", "END"} <= set(rows.labels)
    with pytest.raises(BadInput, match=r"no 'object' in row \d+.*S2"):
        rows.at("object")
    alike = made.rows([i for i, p in enumerate(made.prompts) if p.template == made.prompts[0].template])
    assert alike.mask is None
    with pytest.raises(BadInput, match="no prompts"):
        circuit_rows([])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_padded_batch_gives_the_logits_of_each_prompt_alone(tmp_path, kind):
    import tiny_models

    model = wb.load(tiny_models.save(kind, tmp_path))
    made = [
        CircuitPrompt(tuple(ids), tuple(ids[::-1]), (3, 4), {"END": (n - 1, n)}, "t", "x")
        for n in (5, 9, 12)
        if (ids := np.random.default_rng(n).integers(3, 97, n).tolist())
    ]
    rows = circuit_rows(made)
    for side in ("clean", "corrupted"):
        batch = model(getattr(rows, side), rows.mask)[:, -1]
        alone = torch.cat([model(torch.tensor([getattr(p, side)]))[:, -1] for p in made])
        assert (batch - alone).abs().max() < 1e-4 < (alone[0] - alone[1]).abs().max()


def test_mibs_templates_are_read_from_a_folder():
    folder = DATA / "mib_ioi"
    if not folder.is_dir():
        pytest.skip("MIB's IOI vocabulary is not here")
    assert set(json.loads((folder / "names.json").read_text())) == set(NAMES)
    for order, count in (("baba", 70), ("abba", 70), ("all", 140), ("mixed", 70)):
        templates, words_of = read_mib(folder, order)
        assert len(set(templates)) == count and len(words_of["objects"]) == 8
    fits = bpe([*texts(), *(f"{name} and" for name in NAMES for _ in range(9))])
    made = ioi_prompts(fits, 280, folder=folder, bos=True)
    assert len({p.template for p in made.prompts}) == 140
    begun = [p for p in made.prompts if p.template.startswith("{")]
    assert begun and all("IO-1" not in p.spans or "S1-1" not in p.spans for p in begun)


@pytest.mark.parametrize(
    ("file", "holds", "said"),
    [
        ("templates", ["{name_A} and {name_B} went home"], "use the slots {name_A}, {name_B}, {name_C}"),
        ("templates", ["{name_A} {name_B} {name_C} {town}"], "use the slots"),
        ("templates", ["{name_A} {name_B} {name_C"], "use the slots"),
        ("names", {"a": 1}, "names.json: not a JSON list of texts"),
        ("places", [], "places.json: not a JSON list of texts"),
        ("objects", None, "objects.json cannot be read"),
    ],
)
def test_a_folder_that_is_not_in_mibs_form_is_refused(tokenizer, tmp_path, file, holds, said):
    whole = {"templates": ["{name_A} and {name_B} met. {name_C} spoke to"], "names": list(NAMES)}
    for name, texts_in in {**whole, "places": ["store"], "objects": ["ring"], file: holds}.items():
        (tmp_path / f"{name}.json").write_text("[" if texts_in is None else json.dumps(texts_in))
    with pytest.raises(BadInput) as caught:
        ioi_prompts(tokenizer, 2, folder=tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def counts(rows):
    """Distributions of a list of (clean text, corrupted text)."""
    out = {k: Counter() for k in ("surface", "phrase", "asked", "shown", "object", "colour", "pair")}
    for clean, corrupted in rows:
        one, two = FORM.findall(clean)
        moved = FORM.findall(corrupted)[1]
        for example in (one, two):
            out["surface"][example[0]] += 1
            out["phrase"][example[1]] += 1
            out["object"].update(example[4:11:3])
            out["colour"].update(example[3:10:3])
        at, foil = two[4:11:3].index(two[11]), moved[4:11:3].index(moved[11])
        out["asked"][at] += 1
        out["shown"][one[4:11:3].index(one[11])] += 1
        out["pair"][at, foil] += 1
        assert two[:11] == moved[:11] and not {*one[3:11]} & {*two[4:11:3], *two[3:10:3]}
        assert one[12] == one[3 + 3 * one[4:11:3].index(one[11])].capitalize()
        assert all(a == ("an" if c[0] == "o" else "a") for e in (one, two) for a, c in zip(e[2:9:3], e[3:10:3]))
    return out


def test_colored_objects_have_the_published_form_and_statistics(tokenizer):
    folder = DATA / "colored_objects"
    if not folder.is_dir():
        pytest.skip("the published Colored Objects prompts are not here")
    published, foils = (json.loads((folder / f"cobjs_{x}data_42.json").read_text()) for x in ("", "mindiff_"))
    theirs = counts([(a, b) for (a, _), (b, _) in zip(published, foils, strict=True)])
    made = colored_objects_prompts(tokenizer, 1000, 7, bos=False)
    ours = counts([(p.text, tokenizer.decode(p.corrupted)) for p in made.prompts])
    for what, table in theirs.items():
        assert set(ours[what]) == set(table), what
        total = sum(table.values())
        for key, times in table.items():  # two samples of one distribution: four standard errors of their difference
            share = (times + ours[what][key]) / (2 * total)
            assert abs(times - ours[what][key]) < 4 * (2 * total * share * (1 - share)) ** 0.5, (what, key)
    # the released prompts themselves go through our spans: 62 tokens, colours at 41, 45, 50, objects behind them
    places = {"e": (0, 1)}
    ids = {len(Spelling(tokenizer, False).spelled(text, places)[0]) for text, _ in published[:50]}
    assert ids == {len(p.clean) for p in made.prompts} == {62}
    first = {made.prompts[i].spans[x][0] for i in range(50) for x in ("colour", "wrong-colour", "other-colour")}
    assert first == {41, 45, 50}


def test_labels_of_colored_objects_are_parts_not_places(tokenizer, spoken):
    for p in colored_objects_prompts(tokenizer, 40, 1).prompts:
        said, other = spoken(p), spoken(p, "corrupted")
        right, wrong = (tokenizer.decode([i]) for i in p.answers)
        assert right == f" {said['colour'].capitalize()}" and wrong == f" {said['wrong-colour'].capitalize()}"
        assert said["question"] == said["object"] and other["question"] == said["wrong-object"]
        assert {k for k in said if said[k] != other[k]} == {"question"}
        assert (
            said["shown-answer"] == said["shown-colour"].capitalize() and said["shown-question"] == said["shown-object"]
        )
        assert (
            len({said[f"{x}colour"] for x in ("", "wrong-", "other-", "shown-", "shown-other-", "shown-third-")}) == 6
        )
    for p in colored_objects_prompts(tokenizer, 40, 1, corruption="resample").prompts:
        example, asked = FORM.findall(tokenizer.decode(p.corrupted))
        answer = asked[3 + 3 * asked[4:11:3].index(asked[11])].capitalize()
        assert answer not in {tokenizer.decode([i]).strip() for i in p.answers}
        assert p.text.startswith(tokenizer.decode(p.corrupted)[: tokenizer.decode(p.corrupted).index("\nQ")])
        assert not {*example[3:11]} & {*asked[3:11:3]}


def test_years_of_greater_than(tokenizer, spoken):
    made = greater_than_prompts(tokenizer, 60, 2)
    assert "1703" in made.left_out and "1704" not in made.left_out  # odd years are two tokens in this vocabulary
    for p in made.prompts:
        said = spoken(p)
        later, not_later = (int(tokenizer.decode([i])) for i in p.answers)
        assert later > int(said["year"]) >= not_later > 1
        assert said["century1"] == said["century2"] and spoken(p, "corrupted")["year"] == "01"


@pytest.mark.parametrize(("length", "again"), [(16, 3), (4, 1), (9, 2)])
def test_induction_asks_for_what_followed(tokenizer, length, again):
    for p in induction_prompts(tokenizer, 50, 3, length=length, again=again, bos=False).prompts:
        for ids, answer in ((p.clean, p.answers[0]), (p.corrupted, p.answers[1])):
            body, stretch = ids[:length], ids[length:]
            at = [i for i in range(length - again) if body[i : i + again] == stretch]
            assert len(set(body)) == length and [body[i + again] for i in at] == [answer]
        assert p.clean[p.spans["match+1"][0]] == p.answers[0] and p.clean[p.spans["wrong+1"][0]] == p.answers[1]
        assert p.clean[p.spans["match"][0]] == p.clean[-1] and p.spans["again"] == (length, length + again)
    for p in induction_prompts(tokenizer, 20, 3, corruption="resample", bos=False).prompts:
        assert not set(p.corrupted[16:]) & set(p.clean)


def test_names_that_do_not_fit_are_listed_and_replaced_or_refused(tokenizer):
    given = ["Mary", "Paul", "Zbigniew", "Lisa", "Emily", "David", "Ouagadougou"]
    made = ioi_prompts(tokenizer, 20, names=given)
    assert made.left_out == ("Zbigniew", "Ouagadougou")
    assert not any(name in p.text for p in made.prompts for name in made.left_out)
    with pytest.raises(BadInput, match=r"names.*Zbigniew, Ouagadougou; misfits=replace draws from the 5 others"):
        ioi_prompts(tokenizer, 20, names=given, misfits="refuse")
    with pytest.raises(BadInput, match=r"names: 4 of 5 fit this tokenizer, 5 are needed; not: Zbigniew"):
        ioi_prompts(tokenizer, 20, names=given[:5])
    small = words("Then , and went to the store . gave a ring Mary Paul Lisa Emily David".split())
    short = ioi_prompts(small, 4, order="baba", names=("Mary", "Paul", "Lisa", "Emily", "David"))
    assert {p.template for p in short.prompts} == {BABA[0]} and len(short.left_out) == 7 + 7 + 14
    assert all(p.clean[0] == small.bos_token_id for p in short.prompts)  # as the tokenizer does by itself


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("io", {}, "task=io: no circuit task. Did you mean 'ioi'"),
        ("ioi", {"corruption": "ab"}, "corruption=ab: use one of s2-io, abc. Did you mean 'abc'"),
        ("ioi", {"order": "babba"}, "order=babba: use baba, abba, mixed, all. Did you mean 'baba'"),
        ("ioi", {"misfits": "drop"}, "misfits=drop: use replace, refuse"),
        ("ioi", {"names": ["Mary", "Paul", "Mary"]}, "names: Mary stands twice"),
        ("ioi", {"folder": "nowhere"}, "folder=nowhere: templates.json cannot be read"),
        ("induction", {"length": 5, "again": 3}, "length of at least 2"),
        ("induction", {"length": 9000}, "words, 9003 are needed"),
        ("greater-than", {"corruption": "abc"}, "corruption=abc: use one of 01"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(tokenizer, task, options, said):
    with pytest.raises(BadInput) as caught:
        make_prompts(task, tokenizer, 2, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_tokenizers_that_cannot_serve_are_refused(tokenizer):
    digits = words("The war lasted from the year to".split())
    with pytest.raises(BadInput, match="years .*0 of 700 fit this tokenizer"):
        make_prompts("greater-than", digits, 2)
    with pytest.raises(BadInput, match="other words"):
        make_prompts("colored-objects", words((*colored_objects.OBJECTS, *colours())), 2)
    with pytest.raises(BadInput, match="n=0"):
        make_prompts("ioi", tokenizer, 0)
    with pytest.raises(BadInput, match="fast tokenizer"):
        Spelling(object())
    unmarked = bpe(["a b"])
    unmarked.bos_token = None
    with pytest.raises(BadInput, match="no BOS"):
        Spelling(unmarked, True)


def colours():
    return [*colored_objects.COLOURS, *(c.capitalize() for c in colored_objects.COLOURS)]


def test_pairs_that_cannot_be_compared_are_refused(tokenizer):
    with pytest.raises(BadInput, match="have 3 and 2 tokens"):
        CircuitPrompt((1, 2, 3), (1, 2), (5, 6), {}, "t", "a b c")
    with pytest.raises(BadInput, match="both answers are token 5"):
        CircuitPrompt((1, 2), (1, 3), (5, 5), {}, "t", "a b")
    spelling = Spelling(tokenizer, False)
    with pytest.raises(BadInput, match="have . and .* tokens"):
        spelling.prompt("{x} went to", {"x": "Mary"}, {"x": "Zbigniew"}, (" Mary", " Paul"), "t")
    with pytest.raises(BadInput, match="stands at other tokens"):
        spelling.prompt(
            "{x} went{y} to", {"x": " Mary", "y": " Zb"}, {"x": " Zb", "y": " Mary"}, (" Mary", " Paul"), "t"
        )
    with pytest.raises(BadInput, match="shares a token"):
        spelling.spelled("the store", {"half": (4, 6)})
    with pytest.raises(BadInput, match="not one token"):
        spelling.following("gave it to", " Zbigniew")
