"""The sections of the configuration refuse values that are not allowed, in Python as in YAML."""

from collections.abc import Callable

import pytest

from ich3d.config.schema import (
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    SourceConfig,
    StackConfig,
)
from ich3d.core.errors import ConfigError

NOT_ALLOWED: list[tuple[Callable[[], object], str]] = [
    (lambda: SourceConfig(kind="pacs"), r"^source\.kind must be one of phantom, folder"),
    (lambda: SourceConfig(max_slices=0), r"^source\.max_slices must be positive"),
    (lambda: PhantomConfig(studies=0), r"^phantom\.studies must be positive"),
    (lambda: PhantomConfig(matrix=31), r"^phantom\.matrix must be at least 32"),
    (lambda: PhantomConfig(lookalikes=1.5), r"^phantom\.lookalikes must be within 0\.\.1"),
    (lambda: PhantomConfig(margin_mm=-1), r"^phantom\.margin_mm must be within 0\.\.200"),
    (lambda: PhantomConfig(max_tilt_deg=31), r"^phantom\.max_tilt_deg must be within 0\.\.30"),
    (lambda: PhantomConfig(thickness_mm=()), r"^phantom\.thickness_mm must be one or more"),
    (lambda: PhantomConfig(thickness_mm=(5, 0)), r"^phantom\.thickness_mm must be one or more"),
    (lambda: PrepareConfig(pixel_mm=0), r"^prepare\.pixel_mm must be positive"),
    (lambda: PrepareConfig(matrix=47), r"^prepare\.matrix must be at least 48"),
    (lambda: PrepareConfig(folds=2), r"^prepare\.folds must be at least 3"),
    (lambda: SlicesConfig(encoder="resnet19"), r"^slices\.encoder must be one of resnet10"),
    (lambda: SlicesConfig(neighbours=-1), r"^slices\.neighbours must be within 0\.\.20"),
    (lambda: SlicesConfig(patience=0), r"^slices\.patience must be at least 1"),
    (lambda: SlicesConfig(windows=()), r"^slices\.windows must be at least one window"),
    (lambda: SlicesConfig(windows=("brian",)), r"did you mean 'brain'\?$"),
    (lambda: ContextConfig(direction="up"), r"^context\.direction must be one of both"),
    (
        lambda: ContextConfig(direction="forward", num_layers=2),
        r"^context\.num_layers must be 1 where only one direction is read, got 2$",
    ),
    (lambda: ContextConfig(window=-1), r"^context\.window must be at least 0"),
    (lambda: ContextConfig(window_mm=-0.5), r"^context\.window_mm must be at least 0"),
    (
        lambda: ContextConfig(window=1, window_mm=5.0),
        r"^context\.window_mm must be unset with context\.window, got 5\.0$",
    ),
    (lambda: StackConfig(num_leaves=1), r"^stack\.num_leaves must be within 2\.\.4096"),
    (lambda: ReportConfig(resamples=0), r"^report\.resamples must be at least 1"),
]


@pytest.mark.parametrize(("build", "message"), NOT_ALLOWED)
def test_a_value_that_is_not_allowed_is_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_a_context_model_reads_the_whole_series_unless_a_window_is_set() -> None:
    assert ContextConfig().reads_whole_series
    assert not ContextConfig(window=2).reads_whole_series
    assert not ContextConfig(window_mm=5.0).reads_whole_series
