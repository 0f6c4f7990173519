"""Reading and writing head scores: published bytes, the whole record, damaged files in one line."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import numpy as np
import published
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from workbench.errors import BadInput
from workbench.heads import HeadScores, ModelIdentity
from workbench.scores_io import ABOUT, SCORES, published_text, read_scores, score_files, write_scores

NAN = float("nan")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NUMBER = st.floats(-3, 3, allow_subnormal=False)


def same(a: HeadScores, b: HeadScores) -> None:
    for name in ("values", "per_sample", "tiebreak"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("method", "parameters", "model", "groups", "kv_heads", "skipped_layers", "clip"):
        assert getattr(a, name) == getattr(b, name), name


@st.composite
def head_scores(draw) -> HeadScores:
    """Any head scores: with and without samples, groups, identity, unscored heads and layers."""
    layers, kv, group, n = (draw(st.integers(least, 3)) for least in (1, 1, 1, 0))
    shape = (layers, kv * group)
    gone = draw(hnp.arrays(bool, shape))
    fields = {
        "parameters": draw(st.dictionaries(TEXT, st.one_of(st.integers(-9, 9), NUMBER, TEXT, st.none()), max_size=3)),
        "model": draw(st.none() | st.builds(ModelIdentity, TEXT, TEXT, TEXT)),
        "kv_heads": draw(st.sampled_from([None, kv])),
        "tiebreak": draw(st.none() | hnp.arrays(float, shape, elements=NUMBER)),
        "skipped_layers": tuple(np.flatnonzero(gone.all(1))),
        "clip": draw(st.sampled_from([None, (0.0, 1.0)])),
    }
    if not n or draw(st.booleans()):
        values = draw(hnp.arrays(float, shape, elements=NUMBER))
        return HeadScores(np.where(gone, NAN, values), draw(TEXT), **fields)
    samples = np.where(gone, NAN, draw(hnp.arrays(float, (n, *shape), elements=NUMBER)))
    groups = draw(st.none() | st.tuples(*[TEXT] * n))
    return HeadScores.from_samples(samples, draw(TEXT), groups=groups, **fields)


@given(head_scores())
@settings(max_examples=150, deadline=None)
def test_record_round_trip(scores):
    same(HeadScores.from_json(json.loads(json.dumps(scores.to_json(), allow_nan=False))), scores)


@given(scores=head_scores())
@settings(max_examples=60, deadline=None)
def test_run_files_round_trip(scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for name, text in score_files(scores).items():
        (folder / name).write_text(text)
    same(read_scores(folder), scores)
    same(read_scores(folder / SCORES), scores)


def test_no_samples_yet_round_trip(tmp_path):
    scores = HeadScores.from_samples(np.empty((0, 2, 3)), "test")
    same(HeadScores.from_json(scores.to_json()), scores)
    (tmp_path / SCORES).write_text(published_text(scores))
    assert read_scores(tmp_path).per_sample.shape == (0, 2, 3)
    for name, text in score_files(scores).items():
        (tmp_path / name).write_text(text)
    same(read_scores(tmp_path), scores)


@pytest.mark.parametrize("name", published.FILES)
def test_published_files_come_back_byte_for_byte(name, tmp_path):
    written = write_scores(published.scores(name), tmp_path / "again.json")
    assert written.read_bytes() == published.score_file(name).read_bytes()


def test_layout_of_unscored_heads_and_zeros(tmp_path):
    samples = np.array([[[0.5, NAN], [0.0, 1.0]], [[0.25, NAN], [1.0, 1.0]]])
    scores = HeadScores.from_samples(samples, "test")
    path = write_scores(scores, tmp_path / "new" / "s.json")
    assert path.read_text() == '{"0-0": [0.5, 0.25], "0-1": [], "1-0": [0, 1.0], "1-1": [1.0, 1.0]}'
    np.testing.assert_array_equal(read_scores(path).per_sample, samples)


def test_missing_heads_are_unscored_and_counted(tmp_path):
    (tmp_path / "s.json").write_text('{"0-0": [1, 0], "2-3": [1, 1]}')
    scores = read_scores(tmp_path / "s.json", kv_heads=2)
    assert scores.values.shape == (3, 4) and scores.kv_heads == 2
    assert np.isnan(scores.values).sum() == 10 and "10 heads not scored" in scores.describe()
    assert scores.rank() == [(2, 3), (0, 0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"0-0": [1, 2], "0-1": [1]}', "0-0 has 2 samples and head 0-1 has 1"),
        ('{"0-0": [NaN]}', "NaN is no number"),
        ('{"0-0": [Infinity]}', "Infinity is no number"),
        ('{"0-0": [1e999]}', "too large for a number"),
        (f'{{"0-0": [1{"0" * 400}]}}', "digits, which no number here has"),
        ('{"0-0": ["a"]}', "no finite number"),
        ('{"0-0": [true]}', "no finite number"),
        ('{"0-0": [null]}', "no finite number"),
        ('{"0-0": 0.5}', "layer-head"),
        ('{"layer": [1]}', "layer-head"),
        ('{"-1-0": [1]}', "layer-head"),
        ('{"0-0": [1], "0-0": [2]}', "twice"),
        ('{"0-0": [1], "00-0": [2]}', "twice"),
        ('{"99999-99999": [1]}', "cannot be meant"),
        ("{}", "cannot be meant"),
        ("[1, 2]", "layer-head"),
        ('{"0-0": [1', "not a score file"),
        ("[" * 100_000, "not a score file"),
        ("", "not a score file"),
        ('{"format": "workbench-head-scores", "version": 99}', "layout 99"),
        ('{"format": "workbench-head-scores", "version": 1}', "damaged"),
    ],
)  # fmt: skip
def test_damaged_files_in_one_line(text, words, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as error:
        read_scores(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_binary_file_in_one_line(tmp_path):
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not a score file"):
        read_scores(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "part", ["shape", "values", "parameters", "groups", "kv_heads", "clip", "model", "skipped_layers"]
)
def test_damaged_record_in_one_line(part):
    record = HeadScores.from_samples(np.ones((2, 1, 2)), "test", groups=("a", "b"), clip=(0, 1)).to_json()
    with pytest.raises(BadInput):
        HeadScores.from_json({name: value for name, value in record.items() if name != part})
    with pytest.raises(BadInput):
        HeadScores.from_json({**record, part: "nonsense"})


def test_side_car_of_other_scores(tmp_path):
    for name, text in score_files(HeadScores.from_samples(np.ones((2, 1, 2)), "test", groups=("a", "b"))).items():
        (tmp_path / name).write_text(text)
    (tmp_path / SCORES).write_text('{"0-0": [1, 1]}')
    with pytest.raises(BadInput, match=ABOUT):
        read_scores(tmp_path)
    (tmp_path / SCORES).write_text('{"0-0": [1], "0-1": [1]}')
    with pytest.raises(BadInput, match="2 samples"):
        read_scores(tmp_path)


def test_places_without_scores(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_scores(tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"looked for full_attention_heads.tsv, .*scores.json"):
        read_scores(tmp_path)
    (tmp_path / "file").write_text("{}")
    with pytest.raises(BadInput, match="out="):
        write_scores(HeadScores(np.zeros((1, 1)), "test"), tmp_path / "file" / "s.json")


def test_kv_heads_that_contradict(tmp_path):
    path = write_scores(HeadScores(np.zeros((1, 6)), "test"), tmp_path / "s.json")
    with pytest.raises(BadInput, match="kv_heads="):
        read_scores(path, kv_heads=4)
    gates = published.gate_folder("Mistral-7B-Instruct-v0.2")
    with pytest.raises(BadInput, match="has 8 key-value heads, not kv_heads=4"):
        read_scores(gates, kv_heads=4)
