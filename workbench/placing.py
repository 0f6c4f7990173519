"""Where the weights of a model lie: on one device, over several GPUs, or partly in memory and on disk until they are used.

`device=` says it: `cpu`, `cuda`, `cuda:1` (one device), `gpus:2` (split over the first two), `auto` (GPUs, then memory, then
disk, as accelerate deals them), `auto:cpu=8GB,disk=FOLDER` (within limits; `0=20GB` limits the first GPU; places without
a limit are then left alone, but for the disk). Needs no torch until a model is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from workbench.errors import BadInput
from workbench.sizes import bytes_of

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How accelerate may deal layers."""
DOC = "cpu, cuda, cuda:1, gpus:2 (split), auto, auto:cpu=8GB,disk=FOLDER; default: cuda where there is one"
_SPREAD = re.compile(rf"(?:gpus:(?P<gpus>[1-9][0-9]?)|(?P<map>{'|'.join(MAPS)})(?::(?P<limits>.+))?)")


@dataclass(frozen=True)
class Placement:
    """One device by name (None: the usual one), or what accelerate is told."""

    device: str | None = None
    device_map: str | dict[str, Any] | None = None
    n_devices: int | None = None
    max_memory: dict[int | str, int | str] | None = None
    offload_folder: str | None = None

    @property
    def spread(self) -> bool:
        """Whether more than one place may hold weights."""
        return self.device_map is not None or (self.n_devices or 1) > 1

    def options(self) -> dict[str, Any]:
        """What TransformerLens is told of it, beside the device."""
        names = ("device_map", "n_devices", "max_memory", "offload_folder")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def placement(device: str | None) -> Placement:
    """What `device=` says. Raises BadInput for limits that are none; names of devices are left to torch."""
    spread = _SPREAD.fullmatch(device or "")
    if spread is None:
        return Placement(device)
    if spread["gpus"] == "1":
        return Placement("cuda:0")
    if spread["gpus"]:
        return Placement(n_devices=int(spread["gpus"]))
    limits: dict[int | str, int | str] = {}
    folder = None
    for limit in filter(None, (spread["limits"] or "").split(",")):
        place, _, value = limit.partition("=")
        if place == "disk" and value:
            folder = value
        elif place == "cpu" or place.isdecimal():
            limits[place if place == "cpu" else int(place)] = bytes_of(value, place)
        else:
            raise BadInput(f"device={device}: limits are 0=20GB (a GPU), cpu=8GB and disk=FOLDER, with commas between")
    return Placement(device_map=spread["map"], max_memory=limits or None, offload_folder=folder)
