"""CT display windows, each a centre and a width in Hounsfield units (HU).

The values are common in the reading of head CT. The prepared store keeps HU; the encoder applies
the windows that `slices.windows` names, on its own device.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.errors import ConfigError, suggestion


@dataclass(frozen=True)
class Window:
    """A linear grey scale from `center - width / 2` (black) to `center + width / 2` (white), HU."""

    center: float
    width: float

    @property
    def low(self) -> float:
        """Lower end in HU, shown as 0."""
        return self.center - self.width / 2

    @property
    def high(self) -> float:
        """Upper end in HU, shown as 1."""
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
"""The windows by name; centre and width in HU."""


def window(name: str) -> Window:
    """The window called `name`. An unknown name raises ConfigError with a suggestion."""
    try:
        return WINDOWS[name]
    except KeyError:
        raise ConfigError(f"no window is called {name!r}{suggestion(name, WINDOWS)}") from None
