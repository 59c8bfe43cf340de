"""ich3d: hemorrhage labels for every slice of a head CT, from the whole study.

    import ich3d

    model = ich3d.load_model("runs/demo/model")
    for prediction in ich3d.predict(model, "study").series:
        print(prediction.series.volume_id, prediction.prob["stack"].max(axis=0))

Everything in `__all__` is loaded when it is first used: importing ich3d loads no network library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ich3d.context.bigru import ContextModel
    from ich3d.context.dataset import SeriesDataset
    from ich3d.core.errors import (
        ConfigError,
        DataError,
        Ich3dError,
        LeakageError,
        ModelError,
        UserError,
    )
    from ich3d.inference.scoring import predict
    from ich3d.model.folder import load_model, save_model
    from ich3d.slices.dataset import SliceDataset
    from ich3d.slices.encoder import SliceEncoder
    from ich3d.stack.booster import Stacker

__version__ = "0.3.0"
__all__ = [
    "ConfigError",
    "ContextModel",
    "DataError",
    "Ich3dError",
    "LeakageError",
    "ModelError",
    "SeriesDataset",
    "SliceDataset",
    "SliceEncoder",
    "Stacker",
    "UserError",
    "load_model",
    "predict",
    "save_model",
]

_HOMES = {
    "ich3d.context.bigru": ("ContextModel",),
    "ich3d.context.dataset": ("SeriesDataset",),
    "ich3d.core.errors": (
        "ConfigError", "DataError", "Ich3dError", "LeakageError", "ModelError", "UserError",
    ),
    "ich3d.inference.scoring": ("predict",),
    "ich3d.model.folder": ("load_model", "save_model"),
    "ich3d.slices.dataset": ("SliceDataset",),
    "ich3d.slices.encoder": ("SliceEncoder",),
    "ich3d.stack.booster": ("Stacker",),
}  # fmt: skip
"""The module that each public name comes from."""


def __getattr__(name: str) -> Any:
    """A public name, imported from its module when it is first asked for (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'ich3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What the package offers, loaded or not."""
    return sorted([*__all__, "__version__"])
