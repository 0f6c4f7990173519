"""Values of options: what is known passes, what is not names the nearest, and types say the same."""

from __future__ import annotations

import inspect
from typing import get_args, get_type_hints

import pytest
import torch

from workbench import option_values as values
from workbench.errors import BadInput
from workbench.option_values import either, one_of


def test_known_values_pass_and_others_name_the_nearest():
    assert one_of("rule", "paper", values.SINK_RULES) == "paper"
    with pytest.raises(BadInput, match=r"^rule=papr: use corrected, paper\. Did you mean 'paper'\?$"):
        one_of("rule", "papr", values.SINK_RULES)
    with pytest.raises(BadInput, match=r"^how=zzz: use resample, mean, zero\.$"):
        one_of("how", "zzz", values.OUTSIDE)


@pytest.mark.parametrize(("known", "words"), [(("a",), "a"), (("a", "b"), "a or b"), (("a", "b", "c"), "a, b or c")])
def test_values_in_words(known, words):
    assert either(known) == words


def test_they_are_those_of_the_functions_that_take_them():
    from workbench.booting import DTYPES
    from workbench.interventions import calibrate, mask
    from workbench.patching.replacements import How
    from workbench.validation import Ablation

    taken = get_type_hints(inspect.unwrap(calibrate))
    assert get_args(taken["rule"]) == values.SINK_RULES and get_args(taken["receivers"]) == values.RECEIVERS
    assert get_args(get_type_hints(mask)["how"]) == values.ABLATIONS
    assert get_args(How) == values.OUTSIDE and get_args(Ablation) == (*values.ABLATIONS, "window")
    assert {name: str(t) for name, t in DTYPES.items()} == {name: f"torch.{name}" for name in values.DTYPES}
    assert all(isinstance(t, torch.dtype) for t in DTYPES.values())
