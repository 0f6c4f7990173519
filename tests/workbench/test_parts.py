"""Which part `shard=` names, what its folder is called, and who does which unit."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import BadInput
from workbench.parts import Part, deal, part_of, whole_name


def test_a_part_is_counted_from_zero_and_names_its_folder():
    part = part_of("2/5")
    assert part == Part(2, 5) and str(part) == "2/5"
    assert whole_name("scan-heads-a.b-12345678" + part.suffix) == "scan-heads-a.b-12345678"
    assert whole_name("runs/scan-heads-llama-12345678") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5/5", "the last one is 4/5"), ("3/1", "the whole number of shards"), ("0/0", "1 to"), ("-1/5", "write shard=i/n"),
        ("1", "write shard=i/n"), ("1/", "write"), ("", "write"), ("1/2/3", "write"), ("0/999999999", "1 to"),
        ("1e3/2", "write"), ("१/५", "write"),
    ],
)  # fmt: skip
def test_what_is_no_part_is_told_in_a_line(text, said):
    with pytest.raises(BadInput, match=said):
        part_of(text)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7, 40])
def test_every_unit_has_one_owner_and_no_part_does_much_more_than_another(parts):
    rng = np.random.default_rng()
    costs = rng.choice([256, 512, 1024], 24).astype(float).tolist()
    owners = deal(costs, parts)
    assert len(owners) == 24 and set(owners) <= set(range(parts)) and owners == deal(costs, parts)
    loads = [sum(c for c, o in zip(costs, owners, strict=True) if o == part) for part in range(parts)]
    assert sum(loads) == sum(costs) and max(loads) - min(loads) <= max(costs)


def test_negative_control_dealing_in_turn_would_give_one_part_all_that_is_long():
    costs = [256.0, 512.0, 1024.0] * 8
    in_turn = [sum(costs[i::3]) for i in range(3)]
    assert max(in_turn) == 4 * min(in_turn)
    owners = deal(costs, 3)
    loads = [sum(c for c, o in zip(costs, owners, strict=True) if o == part) for part in range(3)]
    assert max(loads) - min(loads) <= 1024
