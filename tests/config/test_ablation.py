"""The rows of an ablation: which lines show them, and what they may change."""

from collections.abc import Callable

import pytest

from ich3d.config.ablation import (
    AblationConfig,
    AblationRow,
    ControlConfig,
    file_stem,
)
from ich3d.core.errors import ConfigError

NOT_ALLOWED: list[tuple[Callable[[], object], str]] = [
    (lambda: ControlConfig(shuffle="often"), r"^control\.shuffle must be one of never"),
    (lambda: ControlConfig(embedding_noise=-1), r"^control\.embedding_noise must be at least 0"),
    (lambda: ControlConfig(patients=2), r"^control\.patients must be at least 3"),
    (lambda: ControlConfig(cut=0), r"^control\.cut must be at least 1, got 0"),
    (
        lambda: ControlConfig(stacker_without="labels"),
        r"^control\.stacker_without must be one of trees, hu, neighbours, series, position",
    ),
    (lambda: AblationRow("logits"), r"^ablation\.rows: predictor must be one of base rate"),
    (lambda: AblationRow(stacker="two"), r"^ablation\.rows: stacker must be one of without"),
    (lambda: AblationRow("base rate", stacker="both"), r"stacker must be without on a row of"),
    (lambda: AblationRow("rolling mean", stacker="only"), r"stacker must be without on a row of"),
    (
        lambda: AblationRow(stacker="only", stacked_against="b"),
        r"stacked_against must be unset on a row whose stacker is not both, got 'b'$",
    ),
    (lambda: AblationRow(set=("prepare.matrix=256",)), r"^ablation\.rows: set must be of slices"),
    (
        lambda: AblationConfig(rows={"a": AblationRow(against="b")}),
        r"^ablation\.rows\.a\.against must be the name of a row, got 'b'$",
    ),
    (
        lambda: AblationConfig(
            reference="a", rows={"a": AblationRow(stacker="both", stacked_against="b")}
        ),
        r"^ablation\.rows\.a\.stacked_against must be the name of a row, got 'b'$",
    ),
    (
        lambda: AblationConfig(reference="b", rows={"a": AblationRow()}),
        r"^ablation\.reference must be the name of a row, got 'b'$",
    ),
    (
        lambda: AblationConfig(reference="a", question="b", rows={"a": AblationRow()}),
        r"^ablation\.question must be the name of a row, got 'b'$",
    ),
    (
        lambda: AblationConfig(
            reference="a", question="a + stacker", rows={"a": AblationRow(stacker="without")}
        ),
        r"^ablation\.question must be the name of a row, got 'a \+ stacker'$",
    ),
    (
        lambda: AblationConfig(
            reference="a + stacker", question="a", rows={"a": AblationRow(stacker="only")}
        ),
        r"^ablation\.question must be the name of a row, got 'a'$",
    ),
    (
        lambda: AblationConfig(question="encoder"),
        r"^ablation\.question must be the name of a row, got 'encoder'$",
    ),
    (
        lambda: AblationConfig(reference="A b", rows={"A b": AblationRow(), "a-b": AblationRow()}),
        r"^ablation\.rows must be named so that no two lines share a file, got 'a_b'$",
    ),
    (lambda: AblationConfig(seeds=0), r"^ablation\.seeds must be within 1\.\.100"),
]


@pytest.mark.parametrize(("build", "message"), NOT_ALLOWED)
def test_a_value_that_is_not_allowed_is_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_a_row_may_be_compared_with_any_line() -> None:
    rows = {"a": AblationRow(stacker="both"), "b": AblationRow(against="a + stacker")}
    assert AblationConfig(reference="a", question="b", rows=rows).rows == rows


@pytest.mark.parametrize(
    ("stacker", "lines"),
    [("without", ["a"]), ("both", ["a", "a + stacker"]), ("only", ["a + stacker"])],
)
def test_a_row_is_shown_with_a_stacker_without_one_or_both(stacker: str, lines: list[str]) -> None:
    assert AblationRow(stacker=stacker).lines("a") == lines


def test_the_name_of_a_line_becomes_a_file_name() -> None:
    assert file_stem("BiGRU, 2 mm + stacker") == "bigru__2_mm_plus_stacker"
