"""The first parts of a network are run once; training changes the others alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ich3d.config.root import Config
from ich3d.config.schema import IMAGENET, PrepareConfig, SlicesConfig
from ich3d.core.errors import ConfigError
from ich3d.prepare.build import prepare
from ich3d.slices.partly_frozen import (
    MIRRORED,
    PLAIN,
    FrozenMaps,
    encode_maps,
    lr_factor,
    network_of,
    train_partly_frozen,
)
from tests.helpers.lite0 import partly_frozen
from tests.helpers.runs import store_of

FROZEN_PARTS = 7


@pytest.fixture
def config(finished_run: Config, tmp_path: Path) -> Config:
    return partly_frozen(finished_run, tmp_path, FROZEN_PARTS, end_to_end=False)


@pytest.mark.trains
@pytest.mark.parametrize("version", [PLAIN, MIRRORED])
def test_maps_continue_to_what_the_whole_network_gives(
    config: Config, tmp_path: Path, version: int
) -> None:
    store = store_of(config)
    name = store.volume_ids[0]
    maps = FrozenMaps(store, config, tmp_path / "maps")
    hu = torch.from_numpy(store.hu(name))[:, None]
    with torch.no_grad():
        embeddings, logits = encode_maps(maps.start, maps.series(name, version), FROZEN_PARTS)
        expected = maps.start(hu.flip(-1) if version == MIRRORED else hu)
    np.testing.assert_allclose(embeddings, expected[0], atol=2e-3)  # kept in half precision
    np.testing.assert_allclose(logits, expected[1], atol=2e-3)


@pytest.mark.trains
def test_maps_are_kept_as_the_frozen_parts_gave_them(config: Config, tmp_path: Path) -> None:
    """With ImageNet weights: what random ones give is too small for half precision. And on the grid
    of real data: on a small one the network's memory has channels first.
    """
    config = replace(
        config,
        workspace=str(tmp_path),
        phantom=replace(config.phantom, studies=3, thickness_mm=(30.0,)),
        prepare=PrepareConfig(folds=3),
        slices=replace(config.slices, weights=IMAGENET),
    )
    store = prepare(config).store
    name = store.volume_ids[0]
    maps = FrozenMaps(store, config, tmp_path / "maps")
    with torch.no_grad():
        images = maps.start.network_input(torch.from_numpy(store.hu(name))[:, None])
        expected = network_of(maps.start).lower(images, FROZEN_PARTS)
    for kept, given in zip(maps.series(name, PLAIN), expected, strict=True):
        scale = given.abs().max()
        assert scale > 0.1
        np.testing.assert_allclose(kept, given, atol=2e-3 * float(scale))  # in half precision


@pytest.mark.trains
def test_maps_are_computed_once(config: Config, tmp_path: Path) -> None:
    store = store_of(config)
    FrozenMaps(store, config, tmp_path / "maps").compute(store.volume_ids[:1])
    (path,) = (tmp_path / "maps").rglob("*.safetensors")
    written = path.stat().st_mtime_ns
    FrozenMaps(store, config, tmp_path / "maps").series(store.volume_ids[0], MIRRORED)
    assert path.stat().st_mtime_ns == written


@pytest.mark.trains
def test_training_changes_the_last_parts_alone(config: Config, tmp_path: Path) -> None:
    store = store_of(config)
    maps = FrozenMaps(store, config, tmp_path / "maps")
    encoder, groups = train_partly_frozen(store, config, 0, maps, tmp_path / "encoder")
    assert set(groups.groups) == {store.groups[n] for n, fold in store.folds.items() if fold != 0}

    member, start = encoder.members[0], maps.start
    trained = network_of(member).state_dict()  # type: ignore[arg-type]
    for name, tensor in network_of(start).state_dict().items():
        is_frozen = int(name.split(".")[1]) < FROZEN_PARTS
        is_kernel = tensor.ndim > 1
        is_statistic = "running" in name or "num_batches" in name
        if is_frozen or is_kernel or is_statistic:
            stays = is_frozen or is_statistic
            assert torch.equal(tensor.cpu(), trained[name].cpu()) == stays, name


def test_the_learning_rate_falls_from_part_to_part() -> None:
    assert lr_factor("head.weight", 0.5) == 1
    assert lr_factor("backbone.parts.8.1.weight", 0.5) == 0.5
    assert lr_factor("encoder.backbone.parts.6.0._bn0.weight", 0.5) == 0.125


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet10", "frozen_parts": 2}, "slices.encoder must be efficientnet-lite0"),
        ({"encoder": "resnet10", "layer_decay": 0.5}, "slices.encoder must be efficientnet-lite0"),
        ({"encoder": "efficientnet-lite0", "frozen_parts": 2}, "slices.frozen_parts must be 0"),
        ({"encoder": "efficientnet-lite0", "frozen_parts": 10}, "within 0..9"),
    ],
)
def test_what_cannot_be_frozen_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SlicesConfig(**settings)  # type: ignore[arg-type]
