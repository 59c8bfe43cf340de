"""Display windows map Hounsfield units to grey values 0..1."""

import numpy as np
import pytest

from ich3d.core.errors import ConfigError
from ich3d.core.windows import WINDOWS, Window, window


def test_a_window_is_linear_between_its_ends_and_clipped_outside() -> None:
    brain = window("brain")
    assert (brain.low, brain.high) == (0, 80)
    hu = np.array([[-1000, 0, 20], [40, 80, 3000]], dtype=np.int16)
    grey = brain.apply(hu)
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, [[0, 0, 0.25], [0.5, 1, 1]])


def test_a_window_may_have_any_centre_and_width() -> None:
    assert Window(50, 100).apply(np.array([25])) == pytest.approx(0.25)


def test_an_unknown_window_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no window is called 'brian'; did you mean 'brain'\?"):
        window("brian")


@pytest.mark.parametrize("name", WINDOWS)
def test_every_window_is_found_by_its_name(name: str) -> None:
    assert window(name).width > 0
