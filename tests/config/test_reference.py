"""Each key of a configuration is listed, with its default and what it means."""

import pytest

from ich3d.config.load import as_dict
from ich3d.config.reference import as_text, keys
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError


def test_every_key_has_a_meaning() -> None:
    listed = {key.name: key for key in keys()}
    for section, value in as_dict(Config()).items():
        names = [f"{section}.{name}" for name in value] if isinstance(value, dict) else [section]
        for name in names:
            assert len(listed[name].text) > 10, name
    assert "ablation.rows.NAME.stacker" in listed


def test_defaults_are_written_as_in_a_file() -> None:
    defaults = {key.name: key.default for key in keys()}
    assert defaults["slices.frozen"] == "false"
    assert defaults["slices.weights"] == "null"
    assert defaults["slices.windows"] == "[brain, subdural, bone]"
    assert defaults["prepare.pixel_mm"] == "1.2"


def test_one_section_can_be_asked_for() -> None:
    text = as_text(keys("stack"))
    assert text.startswith("stack.num_trees = 200\n    number of boosting rounds.")
    assert "\nslices." not in text
    assert max(map(len, text.splitlines())) <= 96


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no section is called 'slcies'; did you mean 'slices'"):
        keys("slcies")
