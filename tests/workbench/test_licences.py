"""What the package needs is free to be used: every licence is permissive or an exception with its reason."""

from __future__ import annotations

from pathlib import Path

import licences

PAGE = Path(__file__).parents[2] / "docs" / "licences.md"


def test_every_licence_is_permissive_or_has_its_reason():
    found = dict(licences.rows())
    refused = {name: told for name, told in found.items() if not licences.parts(told) <= licences.PERMISSIVE}
    assert refused.keys() == licences.EXCEPTIONS.keys() & found.keys(), {
        n: refused.get(n) for n in refused.keys() ^ licences.EXCEPTIONS
    }
    assert {"torch", "numpy", "safetensors", "plotly"} <= found.keys() and len(found) > 40


def test_the_page_says_what_is_installed():
    assert PAGE.read_text() == licences.page(), "python tests/support/licences.py > docs/licences.md"


def test_negative_control_other_licences_are_not_permissive():
    for told in ("GPL-3.0-only", "MIT AND LGPL-2.1", "not told", "SSPL-1.0", "Apache-2.0 AND (MIT OR GPL-2.0)"):
        assert not licences.parts(told) <= licences.PERMISSIVE, told
    assert licences.parts("(Apache-2.0 OR MIT) AND BSD-3-Clause") <= licences.PERMISSIVE
