"""Encoder and context model trained together: what reaches what, and on whom they are trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, SlicesConfig
from ich3d.context.bigru import ContextModel
from ich3d.context.dataset import collate, series_sample
from ich3d.context.end_to_end import (
    EncoderAndContext,
    MapSeries,
    train_end_to_end,
)
from ich3d.core.errors import ConfigError
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.hu_features import BRAIN_CM2
from ich3d.slices.encoder import SliceEncoder
from ich3d.slices.partly_frozen import PLAIN, FrozenMaps, SliceMaps, encode_maps, network_of
from ich3d.training.losses import masked_log_loss
from tests.helpers.hu_features import brain_features
from tests.helpers.lite0 import partly_frozen
from tests.helpers.runs import store_of

LENGTHS = (5, 1, 3)
FROZEN_PARTS = 8


def random_pair(frozen_parts: int) -> EncoderAndContext:
    """A pair with random weights and without dropout."""
    torch.manual_seed(0)
    encoder = SliceEncoder("efficientnet-lite0", neighbours=0, symmetry=False, dropout=0.0)
    context = ContextModel(encoder.embedding_width, hidden_size=8, dropout=0.0)
    torch.nn.init.normal_(context.correction_head.weight)
    return EncoderAndContext(encoder, context, frozen_parts).eval()


def random_series(pair: EncoderAndContext, n_slices: int, seed: int) -> MapSeries:
    """Random slices through the frozen parts of the pair's network."""
    rng = np.random.default_rng(seed)
    hu = torch.from_numpy(rng.integers(-200, 200, (n_slices, 1, 64, 64)).astype(np.int16))
    with torch.no_grad():
        images = pair.encoder.network_input(hu)
        maps = SliceMaps(*network_of(pair.encoder).lower(images, pair.frozen_parts))
    return MapSeries(
        maps=(maps, maps),
        z_mm=torch.arange(n_slices, dtype=torch.float64) * 5,
        brain_cm2=torch.from_numpy(brain_features(n_slices, seed)[:, BRAIN_CM2].copy()),
        target=torch.from_numpy(rng.integers(0, 2, (n_slices, 6)).astype(np.float32)),
    )


def context_gradients(pair: EncoderAndContext) -> dict[str, torch.Tensor]:
    """The gradients of the context model's parameters by name."""
    return {
        name: parameter.grad.clone()
        for name, parameter in pair.context.named_parameters()
        if parameter.grad is not None
    }


def test_with_the_network_frozen_the_context_model_gets_the_gradients_of_two_stages() -> None:
    pair = random_pair(frozen_parts=9)
    series = [random_series(pair, n, seed) for seed, n in enumerate(LENGTHS)]
    pair.loss(series, PLAIN).backward()
    together = {
        name: p.grad.clone() for name, p in pair.context.named_parameters() if p.grad is not None
    }

    # Two stages: the series are embedded first, then the context model alone is trained.
    pair.zero_grad()
    samples = []
    for one in series:
        with torch.no_grad():
            embeddings, logits = encode_maps(pair.encoder, one.maps[PLAIN], 9)
        features = np.zeros((len(one.z_mm), brain_features(1).shape[1]), np.float32)
        features[:, BRAIN_CM2] = one.brain_cm2
        embedded = SliceEmbeddings(
            "v", embeddings.numpy(), logits.numpy(), features, "encoder", TrainingGroups.of(())
        )
        samples.append(series_sample(embedded, one.z_mm.numpy(), one.target.numpy()))
    batch = collate(samples)
    logits = pair.context(
        batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2
    )
    masked_log_loss(logits.flatten(0, 1), batch.target.flatten(0, 1)).backward()
    apart = context_gradients(pair)

    assert together.keys() == apart.keys()
    for name, gradient in apart.items():
        torch.testing.assert_close(together[name], gradient, atol=1e-6, rtol=1e-4)
        assert gradient.abs().max() > 0


def test_the_trained_parts_learn_from_the_gru() -> None:
    pair = random_pair(FROZEN_PARTS)
    series = [random_series(pair, n, seed) for seed, n in enumerate(LENGTHS)]
    _, context_logits = pair(series, PLAIN)
    target = torch.cat([one.target for one in series])
    masked_log_loss(context_logits, target).backward()
    part_of = network_of(pair.encoder).parts
    reached = [any(p.grad is not None for p in part.parameters()) for part in part_of]
    assert reached == [False] * FROZEN_PARTS + [True]


def test_a_series_is_scored_the_same_whatever_else_is_in_the_batch() -> None:
    pair = random_pair(FROZEN_PARTS)
    series = [random_series(pair, n, seed) for seed, n in enumerate(LENGTHS)]
    with torch.no_grad():
        together = pair(series, PLAIN)
        alone = [pair([one], PLAIN) for one in series]
    for index in (0, 1):
        torch.testing.assert_close(together[index], torch.cat([one[index] for one in alone]))
    run = series[0].run(slice(1, 3))
    assert len(run.z_mm) == len(run.target) == len(run.maps[1].maps) == 2


@pytest.mark.trains
def test_a_pair_is_trained_on_the_other_folds_and_changes_the_last_parts_alone(
    finished_run: Config, tmp_path: Path
) -> None:
    config = partly_frozen(finished_run, tmp_path, FROZEN_PARTS, end_to_end=True)
    store = store_of(config)
    maps = FrozenMaps(store, config, tmp_path / "maps")
    encoder, context, groups = train_end_to_end(store, config, 0, maps, tmp_path / "pair")
    assert set(groups.groups) == {store.groups[n] for n, fold in store.folds.items() if fold != 0}

    trained, start = encoder.members[0], maps.start
    assert isinstance(trained, SliceEncoder)
    for index, part in enumerate(network_of(start).parts):
        own = network_of(trained).parts[index].state_dict()
        changed = any(
            not torch.equal(t.cpu(), own[name].cpu()) for name, t in part.state_dict().items()
        )
        assert changed == (index >= FROZEN_PARTS)

    again = train_end_to_end(store, config, 0, maps, tmp_path / "again")
    for first, second in ((encoder, again[0]), (context, again[1])):
        for name, tensor in first.state_dict().items():
            torch.testing.assert_close(second.state_dict()[name], tensor)


def test_what_cannot_be_trained_end_to_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context.end_to_end must be false unless slices.frozen"):
        Config(context=ContextConfig(end_to_end=True, ensemble_size=1))
    with pytest.raises(ConfigError, match=r"context.end_to_end must be false unless context.reads"):
        ContextConfig(end_to_end=True, ensemble_size=3)
    slices = SlicesConfig(encoder="efficientnet-lite0", weights="imagenet", frozen_parts=7)
    context = ContextConfig(end_to_end=True, ensemble_size=1)
    config = Config(slices=slices, context=context)
    with pytest.raises(ConfigError, match="no control is"):
        replace(config, control=replace(config.control, shuffle="test"))
