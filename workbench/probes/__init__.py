"""Probes: statistics of a forward pass, one file each, and scores of heads that are made of them.

`wb.observe(model, tokens, [wb.probes.received(), …])` collects them. A probe is no trained linear probe.
"""

from __future__ import annotations

from workbench.probes.activations import key_norms, resid_norms, value_norms
from workbench.probes.distance import distance
from workbench.probes.entropy import entropy
from workbench.probes.even import Even, even
from workbench.probes.held import held
from workbench.probes.lse import lse
from workbench.probes.mass import mass
from workbench.probes.massive import Massive, massive
from workbench.probes.matched import matched, token_labels
from workbench.probes.moments import moments
from workbench.probes.norms import norms
from workbench.probes.phi import phi
from workbench.probes.probe import Probe, TopKeys
from workbench.probes.profile import profile
from workbench.probes.received import received
from workbench.probes.receivers import receivers
from workbench.probes.region import region
from workbench.probes.sink_mass import sink_mass
from workbench.probes.strongest import Strongest, strongest
from workbench.probes.thumbnail import Thumbnails, thumbnail
from workbench.probes.top_keys import top_keys
from workbench.probes.without_sinks import without_sinks

__all__ = [
    "Even", "Massive", "Probe", "Strongest", "Thumbnails", "TopKeys", "distance", "entropy", "even", "held", "key_norms",
    "lse", "mass", "massive", "matched", "moments", "norms", "phi", "profile", "received", "receivers", "region",
    "resid_norms", "sink_mass", "strongest", "thumbnail", "token_labels", "top_keys", "value_norms", "without_sinks",
]  # fmt: skip
