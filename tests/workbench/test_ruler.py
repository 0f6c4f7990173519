"""RULER's rows: both forms read alike, its rule by hand, bad files in one line, generated rows that hold what they ask."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import word_tokenizers

import workbench as wb
from workbench.errors import BadInput
from workbench.simulation.cases import of_row
from workbench.tasks.assembling import Assembler
from workbench.tasks.ruler import read_rows, score
from workbench.tasks.ruler_needles import TASKS, generate_rows

OURS = {"index": 3, "input": "a b c ?", "outputs": ["1", "2"], "length": 4}
THEIRS = {"context": "a b c", "question": " d ?", "answer_prefix": " e :", "answer": ["1"], "task": "qa_1",
          "max_new_tokens": 7}  # fmt: skip


@pytest.fixture(scope="module")
def llama():
    return wb.load("llama")


def file(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(json.dumps(r) if isinstance(r, dict) else r for r in rows) + "\n")
    return path


def test_both_forms_are_read(tmp_path):
    own, theirs = read_rows(file(tmp_path, OURS, "", THEIRS, name="niah_multivalue/validation.jsonl"))
    assert (own.task, own.input, own.outputs, own.new_tokens, own.index) == (
        "niah_multivalue", "a b c ?", ("1", "2"), 128, 3,
    )  # fmt: skip
    assert (theirs.task, theirs.input, theirs.outputs, theirs.new_tokens) == ("qa_1", "a b c d ? e :", ("1",), 7)
    assert read_rows(file(tmp_path, OURS, name="ruler_vt.jsonl"))[0].new_tokens == 30
    again = read_rows(file(tmp_path, theirs.record(9)))[0]
    assert again.input == theirs.input and theirs.record(9)["length"] == 9 and again.outputs == theirs.outputs


def test_strings_may_hold_line_ends_that_json_allows(tmp_path):
    text = "a\u2028b\x85c\u2029d é"
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"input": text, "outputs": ["1"]}, ensure_ascii=False)
    path.write_bytes(f"{line}\r\n{line}\n".encode())
    assert [row.input for row in read_rows(path)] == [text, text]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "rows.jsonl:2: no RULER row"),
        ('{"input": "a"}', "rows.jsonl:2"),
        ('{"input": "a", "outputs": []}', "rows.jsonl:2"),
        ('{"input": "", "outputs": ["x"]}', "rows.jsonl:2"),
        ('{"input": "a", "outputs": [1]}', "rows.jsonl:2"),
        ('{"context": "a", "question": 3, "answer": ["x"]}', "rows.jsonl:2"),
        ('{"input": "a", "outputs": ["x"], "max_new_tokens": 0}', "rows.jsonl:2"),
        ("[1]", "rows.jsonl:2"),
    ],
)
def test_bad_rows_are_named_by_their_line(line, said, tmp_path):
    with pytest.raises(BadInput, match=re.escape(said)):
        read_rows(file(tmp_path, OURS, line))


def test_files_that_are_not_there_or_empty(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="no row in it"):
        read_rows(file(tmp_path, ""))


def test_the_rule_counts_strings_that_stand_in_the_answer():
    assert score("It is ALPHA and beta.", ["alpha", "Beta", "gamma", "delta"], "niah_multivalue") == 0.5
    assert score("nothing", ["alpha"], "niah_single_1") == 0.0
    assert score("beta", ["alpha", "beta"], "qa_2") == 1.0 and score("beta", ["alpha", "beta"], "niah_x") == 0.5


@pytest.mark.parametrize("kind", list(TASKS))
def test_generated_rows_hold_what_they_ask(llama, kind):
    assembler = Assembler(llama.tokenizer)
    rows = generate_rows(assembler, kind, 400, 6, 5)
    assert rows == generate_rows(assembler, kind, 400, 6, 5) != generate_rows(assembler, kind, 400, 6, 6)
    for row in rows:
        tokens, asked = row.tokens(assembler)
        assert 300 < len(tokens) + row.new_tokens <= 400
        assert llama.tokenizer.unk_token_id not in tokens and tokens[0] == llama.tokenizer.bos_token_id
        assert list(tokens[1:]) == assembler.ids(row.input)  # the parts join as the whole text does
        assert llama.tokenizer.decode(tokens[asked:]).startswith("question")
        stated = dict.fromkeys(re.findall(r"secret code of (\w+) is : ((?:\w+ )+)\.", row.context))
        values = [value.strip() for _, value in stated]
        assert len(values) == 4 and set(row.outputs) <= set(values)
        name = re.search(r"code of (\w+) \?", row.question).group(1)
        mine = [value.strip() for key, value in stated if key == name]
        assert sorted(mine) == sorted(row.outputs) and len(mine) == (4 if kind == "multivalue" else 1)
    depths = [row.context.index(row.outputs[0]) / len(row.context) for row in rows]
    assert np.ptp(depths) > 0.2  # the first stated value is not always at one place
    with pytest.raises(BadInput, match="no room"):
        generate_rows(assembler, kind, 60, 1, 0)


def test_a_row_becomes_a_case_and_a_lone_input_has_no_question(llama, tmp_path):
    assembler = Assembler(llama.tokenizer)
    row = generate_rows(assembler, "multikey", 300, 1, 1)[0]
    prompt, asked = row.tokens(assembler)
    seen, after = of_row(row, assembler, [7, 8], True), of_row(row, assembler, [7, 8], False)
    assert (seen.prefix, seen.again, seen.scored, seen.tokens) == (len(prompt), 1, 2, (*prompt, 7, 8))
    assert (after.prefix, after.again, after.new_tokens) == (asked, 0, row.new_tokens)
    lone = read_rows(file(tmp_path, {"input": "<bos> the lamp", "outputs": ["old"]}))[0]
    assert of_row(lone, assembler, [7], True).tokens[:-1] == tuple(assembler.ids("<bos> the lamp"))  # BOS once
    with pytest.raises(BadInput, match="question=seen"):
        of_row(lone, assembler, [7], False)


def test_other_words_do_not_fit():
    other = Assembler(word_tokenizers.words(["a", "b", "secret"]))
    with pytest.raises(BadInput, match="do not fit this vocabulary"):
        generate_rows(other, "multikey", 300, 1, 0)
