"""A model's own tokenizer, as Hugging Face loads it.

TransformerLens 4.3 loads every tokenizer so that it puts BOS first, and lends the end of a text as BOS to those that have
none; `bridge.tokenizer` stays as it wants it.
"""

from __future__ import annotations

import copy
from typing import Any

from workbench.reference_models import catalogue


def own_tokenizer(bridge: Any, place: str, trust_remote_code: bool) -> Any:
    """The tokenizer of a place as Hugging Face loads it; where it has no token to pad with, it gets the bridge's."""
    if place in catalogue.PLANTED or bridge.tokenizer is None:
        return bridge.tokenizer
    found = _loaded(getattr(bridge.cfg, "tokenizer_name", None) or place, bridge, trust_remote_code=trust_remote_code)
    return _padding(found, bridge.tokenizer)


def tokenizer_of(bridge: Any) -> Any:
    """The own tokenizer of a live bridge: from where the bridge's was loaded, if its vocabulary is still the same.

    Else it is the bridge's, and BOS comes first unless TransformerLens says that the family has none.
    """
    given = bridge.tokenizer
    if given is None or not getattr(given, "name_or_path", ""):
        return _unlent(bridge)
    try:
        found = _loaded(given.name_or_path, bridge, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError):
        return _unlent(bridge)
    if found.get_vocab() != given.get_vocab():
        return _unlent(bridge)
    found.chat_template = given.chat_template
    return _padding(found, given)


def _loaded(place: str, bridge: Any, **options: Any) -> Any:
    from transformer_lens.utilities.hf_utils import autotokenizer_with_special_token_compat

    return autotokenizer_with_special_token_compat(place, use_fast=getattr(bridge.cfg, "use_fast", True), **options)


def _padding(own: Any, given: Any) -> Any:
    if own.pad_token is None:
        own.pad_token = given.pad_token
    return own


def _unlent(bridge: Any) -> Any:
    """The bridge's tokenizer, without a BOS token that is only the end of a text."""
    given = bridge.tokenizer
    if given is None or given.bos_token_id != given.eos_token_id or bridge.cfg.default_prepend_bos:
        return given
    words = copy.deepcopy(given)
    words.add_bos_token, words.bos_token = False, None
    return words
