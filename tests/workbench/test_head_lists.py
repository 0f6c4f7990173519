"""Lists of heads as files, there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.errors import BadInput
from workbench.head_lists import about_list, act_list, head_list, read_heads


def test_both_layouts_come_back(tmp_path):
    rng = np.random.default_rng()
    heads = sorted({(int(i), int(j)) for i, j in zip(rng.integers(2, 32, 40), rng.integers(0, 32, 40), strict=True)})
    about = {"beta": 0.4, "model": "x"}
    for text, says in ((head_list(heads, about), about), (act_list(heads, 32), {})):
        (tmp_path / "list.json").write_text(text)
        assert [tuple(h) for h in read_heads(tmp_path / "list.json")] == heads
        assert about_list(tmp_path / "list.json") == says


def test_the_authors_first_row_is_layer_two(tmp_path):
    rows = json.loads(act_list([(2, 5), (4, 0), (4, 3)], 6))
    assert rows == [[5], [], [0, 3], []]


def test_layers_that_it_cannot_name_are_refused():
    with pytest.raises(BadInput, match="L1H3: the authors' layout begins at layer 2"):
        act_list([(1, 3)], 6)


@pytest.mark.parametrize(
    "text", ["{", "3", '{"heads": 3}', '{"heads": [[1]]}', '[[1], "a"]', "[[true]]", "[[-1]]", '{"heads": [[1, 2.5]]}']
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BadInput, match="list.json"):
        read_heads(tmp_path / "list.json")
