"""The rules that concern several sections, and the seed of a repetition."""

import pytest

from ich3d.config.ablation import ControlConfig
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig
from ich3d.core.errors import ConfigError


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^precision must be one of auto, fp32, got 'fp16'$"):
        Config(precision="fp16")


def test_shuffled_slices_need_the_whole_series() -> None:
    assert Config(control=ControlConfig(shuffle="test")).context.reads_whole_series
    with pytest.raises(ConfigError, match=r"^context\.window must be unset with control\.shuffle"):
        Config(context=ContextConfig(window=1), control=ControlConfig(shuffle="test"))


def test_there_is_a_patient_for_each_of_the_other_folds() -> None:
    assert Config(prepare=PrepareConfig(folds=4), control=ControlConfig(patients=3)).seed == 0
    with pytest.raises(ConfigError, match=r"^control\.patients must be at least 4"):
        Config(prepare=PrepareConfig(folds=5), control=ControlConfig(patients=3))


def test_only_a_replicate_changes_the_seed_of_context_models() -> None:
    assert Config(seed=7).context_seed == 7
    seeds = {Config(seed=7, replicate=number).context_seed for number in range(4)}
    assert len(seeds) == 4
