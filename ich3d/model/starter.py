"""The starter model: the trained model that comes with the package.

    ich3d/starter/model/          the model folder
    ich3d/starter/MODEL_CARD.md   what it is, for people
    ich3d/starter/card.json       the figures of the card, for programs

Nothing here loads a network library, and importing it loads no package.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from ich3d.core.errors import ModelError

STARTER: Final = Path(__file__).parents[1] / "starter"
"""The folder of the starter model in the installed package."""

MODEL: Final = "model"
CARD: Final = "MODEL_CARD.md"
FIGURES: Final = "card.json"
"""Names within the folder of a starter model, and beside any model that has a card."""

MAX_BYTES: Final = 12_000_000
"""The largest starter model, with its card: it comes with every installation."""

_WORKSPACE: Final = "runs/starter"
"""The run folder that the manifest names, wherever the model was trained."""


def has_starter(root: Path = STARTER) -> bool:
    """Whether `root` holds a starter model with its card."""
    files = (Path(MODEL) / "manifest.json", Path(CARD), Path(FIGURES))
    return all((root / file).is_file() for file in files)


def starter_model(root: Path = STARTER) -> Path:
    """The model folder of the starter model.

    Raises:
        ModelError: there is none in `root`.
    """
    if not has_starter(root):
        raise ModelError(
            f"there is no starter model in {root}: name a model folder, or train one with "
            "`make starter`"
        )
    return root / MODEL


def starter_notice(root: Path = STARTER) -> str:
    """One line that says what the starter model is, and what it is not.

    Raises:
        ModelError: there is none in `root`.
    """
    from ich3d.core.text import pluralize
    from ich3d.core.workspace import read_json

    starter_model(root)
    patients = pluralize(read_json(root / FIGURES)["patients"], "patient")
    return (
        f"the starter model is research software, trained on {patients} of one hospital, and not "
        f"a medical device; its card is {root / CARD}"
    )


def install_starter(trained: Path, root: Path = STARTER) -> Path:
    """Copy a trained model into the package, without the paths of the machine that trained it.

    A card there is removed, since it is of another model; `report.model_card.write_card` writes the
    new one.

    Args:
        trained: the model folder of a finished run.
        root: where to write `model/`; a model there is replaced, whole or not at all.

    Returns:
        The copied model folder.

    Raises:
        ModelError: `trained` is no whole model of this version's format, or larger than
            `MAX_BYTES`.
    """
    from ich3d.core.workspace import replacing
    from ich3d.model.manifest import FORMAT_VERSION, read_manifest, write_manifest

    manifest = read_manifest(trained)
    if manifest.format_version != FORMAT_VERSION:
        raise ModelError(f"{trained} has an earlier format; train it again")
    size = sum((trained / name).stat().st_size for name in manifest.files)
    if size > MAX_BYTES:
        raise ModelError(f"{trained} has {size / 1e6:.1f} MB; a starter model has at most 12 MB")

    source = replace(manifest.config.source, path=None, labels=None)
    config = replace(manifest.config, workspace=_WORKSPACE, source=source)

    for name in (CARD, FIGURES):
        (root / name).unlink(missing_ok=True)
    with replacing(root / MODEL) as partial:
        for name in manifest.files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained / name, partial / name)
        write_manifest(
            partial,
            config,
            manifest.fingerprint,
            manifest.folds,
            manifest.training_groups_known,
            manifest.performance,
        )
    return root / MODEL
