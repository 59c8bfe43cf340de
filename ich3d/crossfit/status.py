"""What a stage's folder says of itself: what it was begun from, that it is finished, and whom it has seen."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ich3d.config.root import Config
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_json, write_json


def inputs_in(folder: Path) -> str | None:
    """The hash of the inputs that a stage's folder was begun from."""
    mark = folder / "inputs.json"
    return str(read_json(mark)) if mark.exists() else None


def is_done(folder: Path) -> bool:
    """Whether the stage was finished there."""
    return (folder / "done.json").exists()


def training_groups_of(folder: Path) -> TrainingGroups:
    """The patients that a finished stage was fitted on."""
    facts = read_json(folder / "done.json")
    return TrainingGroups.of(
        facts["training_groups" if "training_groups" in facts else "fit_patients"]
    )


def close(folder: Path, training_groups: TrainingGroups, makers: Iterable[TrainingGroups]) -> None:
    """Mark a stage's fold as finished, with the patients that it was fitted on, and, as `upstream_groups`,
    all that it knows of through the makers of its inputs."""
    for state in folder.rglob("state.pt"):
        state.unlink()
    upstream = TrainingGroups.of(
        {*training_groups.groups, *(group for maker in makers for group in maker.groups)}
    )
    facts = {
        "training_groups": sorted(training_groups.groups),
        "training_groups_sha256": training_groups.sha256,
        "upstream_groups": sorted(upstream.groups),
        "upstream_groups_sha256": upstream.sha256,
    }
    write_json(folder / "done.json", facts)


def weights_sha256(config: Config) -> tuple[str | None, ...]:
    """The hashes of the files that the encoder and the context model start from, None where from none."""
    return tuple(_file_sha256(path) for path in (config.slices.weights, config.context.weights))


def _file_sha256(path: str | None) -> str | None:
    """The hash of a file that a config names; its name where it is not there, None where none is named."""
    if path is None or not Path(path).is_file():
        return path
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
