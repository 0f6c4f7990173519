"""`workbench merge FOLDER…`: checks that all shards of a run are there, puts them together and ends the run."""

from __future__ import annotations

import chz

from workbench import placing
from workbench.command import Command, Result
from workbench.errors import BadInput


@chz.chz
class Merge:
    """Parts that `shard=` wrote become the run that one machine would have made; ended here, with proof and report."""

    folders: tuple[str, ...] = chz.field(doc="folders of the shards, or the folder they lie in")
    mixed: bool = chz.field(default=False, doc="merge shards made with other versions, devices or batches, too")
    batch: int | None = chz.field(default=None, doc="rows in one forward from here on; default: as in the shards")
    device: str | None = chz.field(default=None, doc=placing.DOC)
    memory: str | None = chz.field(default=None, doc="bytes that work may take beside the weights, as 2GB")
    trust_remote_code: bool = chz.field(default=False, doc="run code that comes with the model")
    out: str | None = chz.field(default=None, doc="where the run folder goes; default: beside the shards")


def run(config: Merge) -> Result:
    """Check the parts, give them to the run and end it. Resumes where it stopped. Raises BadInput and RunError."""
    from workbench import merging
    from workbench.discovery import commands
    from workbench.options import parse
    from workbench.unasked import named_by

    parts = merging.together(config.folders, config.mixed)
    first = parts.first
    command = commands().get(first.command)
    if command is None:
        raise BadInput(f"{first.path} is a part of {first.command!r}, which this workbench does not know")
    unknown = set(first.options) - set(merging.recorded(command.config))
    if unknown:
        raise BadInput(f"{first.path} has options that {command.name} does not take: {', '.join(sorted(unknown))}")
    options = {**first.options, "out": config.out or str(first.path.parent)}
    options |= {"trust_remote_code": str(config.trust_remote_code).lower()}
    if config.batch is not None:
        options["batch"] = str(config.batch)
    if config.device is not None:
        options["device"] = config.device
    if config.memory is not None:
        options["memory"] = config.memory
    words = [f"{key}={value}" for key, value in options.items()]
    merged = merging.MERGED.set(parts)
    try:
        with named_by(first.path):
            return command.run(parse(command, words).config)
    finally:
        merging.MERGED.reset(merged)


COMMAND = Command("merge", "put the shards of a run together, check and end it", Merge, run, ("folders",))
