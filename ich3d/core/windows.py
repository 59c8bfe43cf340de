"""CT display windows: centre and width in HU.

Each is a setting in common radiological use for head CT; the encoder applies the ones that the
config names, on the device, so the store keeps HU.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.errors import ConfigError, suggestion


@dataclass(frozen=True)
class Window:
    """A linear grey scale from `center - width / 2` to `center + width / 2`, in HU."""

    center: float
    width: float

    @property
    def low(self) -> float:
        return self.center - self.width / 2

    @property
    def high(self) -> float:
        return self.center + self.width / 2

    def apply(self, hu: np.ndarray) -> np.ndarray:
        """Grey values float32 in 0..1, the shape of `hu`."""
        scaled = (hu.astype(np.float32) - self.low) / self.width
        return np.asarray(np.clip(scaled, 0.0, 1.0))


WINDOWS: Final = {
    "brain": Window(40, 80),
    "blood": Window(60, 60),
    "subdural": Window(75, 215),
    "stroke": Window(32, 8),
    "soft": Window(40, 380),
    "bone": Window(600, 2800),
}


def window(name: str) -> Window:
    """The window called `name`; `ConfigError` names the nearest one where there is none."""
    try:
        return WINDOWS[name]
    except KeyError:
        raise ConfigError(f"no window is called {name!r}{suggestion(name, WINDOWS)}") from None
