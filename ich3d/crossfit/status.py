"""What the folder of one stage of one fold records: its inputs, that it is finished, and whom
it has seen.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ich3d.core.errors import DataError, ModelError
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_json, write_json


def recorded_inputs(folder: Path) -> str | None:
    """The hash of the inputs that the stage was started from; None for a new folder."""
    path = folder / "inputs.json"
    return str(read_json(path)) if path.exists() else None


def start(folder: Path, inputs_sha256: str) -> None:
    """Make `folder` ready for a stage; it is emptied if it was started from other inputs."""
    if recorded_inputs(folder) == inputs_sha256:
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "inputs.json", inputs_sha256)


def is_finished(folder: Path) -> bool:
    """Whether the stage was trained to its end there."""
    return (folder / "done.json").exists()


def finish(
    folder: Path, training_groups: TrainingGroups, upstream_models: Iterable[TrainingGroups]
) -> None:
    """Mark the stage as finished and remove the states of its training.

    Args:
        folder: the stage's folder.
        training_groups: the patient groups that it was trained on.
        upstream_models: the groups behind each model that its training data came from. Together
            with its own they are recorded as `upstream_groups`: everyone whom it knows of, even
            indirectly.
    """
    for state in folder.rglob("state.pt"):
        state.unlink()

    groups = {group for model in upstream_models for group in model.groups}
    upstream = TrainingGroups.of({*training_groups.groups, *groups})
    facts = {
        "training_groups": sorted(training_groups.groups),
        "training_groups_sha256": training_groups.sha256,
        "upstream_groups": sorted(upstream.groups),
        "upstream_groups_sha256": upstream.sha256,
    }
    write_json(folder / "done.json", facts)


def training_groups_of(folder: Path) -> TrainingGroups:
    """The patient groups that a finished stage was trained on."""
    facts = read_json(folder / "done.json")
    key = "training_groups" if "training_groups" in facts else "fit_patients"  # version 0.1
    return TrainingGroups.of(facts[key])


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Read files of a finished stage: an error about one of them says how to train it again."""
    try:
        yield
    except (DataError, ModelError) as error:
        raise DataError(
            f"{str(error).partition(': ')[0]}: remove the folder {folder} and run the same command "
            "again, which trains this stage anew"
        ) from None
