"""The encoder's share of the context stage: chosen where enough patients tell, and kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ich3d.config.schema import ContextConfig
from ich3d.context.bigru import ENCODER_SHARE, ContextEnsemble
from ich3d.context.dataset import series_sample
from ich3d.context.share import (
    MIN_BLEEDING_GROUPS,
    SHARES,
    ValidationScores,
    choose_encoder_share,
    validation_scores,
)
from ich3d.core.labels import ANY, LABELS
from ich3d.training.weights import load_weights, read_tensors, save_weights
from tests.helpers.embedded import EMBEDDING_WIDTH, batch_of, context_model, random_embedded


def scores_where(context_sd: float, encoder_sd: float, n_groups: int = 60) -> ValidationScores:
    """Scores whose logits are the truth with noise of these SDs; half of the patients bleed."""
    rng = np.random.default_rng(0)
    target = np.repeat(rng.random((n_groups, 1, 6)) < 0.5, 10, axis=1).astype(np.float32)
    target[..., LABELS.index(ANY)] = 1
    target[::2] = 0
    truth = 4 * target.reshape(-1, 6) - 2

    def noisy(sd: float) -> torch.Tensor:
        return torch.from_numpy((truth + sd * rng.normal(size=truth.shape)).astype(np.float32))

    group = np.repeat([f"p{index}" for index in range(n_groups)], 10)
    return ValidationScores(
        noisy(encoder_sd), noisy(context_sd), torch.from_numpy(target.reshape(-1, 6)), group
    )


def test_the_encoder_counts_little_beside_better_context_models() -> None:
    assert choose_encoder_share([scores_where(context_sd=0.2, encoder_sd=3.0)]) == 0.0
    assert choose_encoder_share([scores_where(context_sd=2.0, encoder_sd=2.0)]) == ENCODER_SHARE
    assert choose_encoder_share([scores_where(context_sd=3.0, encoder_sd=0.2)]) == SHARES[0]


def test_few_patients_who_bleed_choose_nothing() -> None:
    few = scores_where(0.2, 3.0, n_groups=MIN_BLEEDING_GROUPS)
    assert choose_encoder_share([few]) == ENCODER_SHARE

    # Several members have other validation patients: theirs count together.
    others = replace(few, group=np.char.add(few.group, "b"))
    third = replace(few, group=np.char.add(few.group, "c"))
    assert choose_encoder_share([few, others, third]) == 0.0


def test_slices_are_scored_without_the_padding() -> None:
    model = context_model()
    series = [random_embedded(4, 1), random_embedded(7, 2)]
    samples = [
        series_sample(one, 5.0 * np.arange(len(one)), np.zeros((len(one), 6), np.float32))
        for one in series
    ]
    scores = validation_scores(model, samples, ["a", "b"])
    assert scores.group.tolist() == ["a"] * 4 + ["b"] * 7
    np.testing.assert_array_equal(scores.encoder[4:], series[1].logits)
    batch = batch_of(series[1])
    with torch.no_grad():
        alone = model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2)
    np.testing.assert_allclose(scores.context[4:], alone[0], atol=1e-5)


def test_the_share_is_saved_and_weights_without_one_have_the_half(tmp_path: Path) -> None:
    config = ContextConfig(ensemble_size=2)
    trained = ContextEnsemble.from_config(config, EMBEDDING_WIDTH)
    trained.encoder_share.fill_(0.25)
    path = tmp_path / "weights.safetensors"
    save_weights(path, trained)
    loaded = ContextEnsemble.from_config(config, EMBEDDING_WIDTH)
    load_weights(path, loaded)
    assert loaded.encoder_share == 0.25

    tensors = read_tensors(path)
    del tensors["encoder_share"]
    save_file(tensors, path)
    load_weights(path, loaded)
    assert loaded.encoder_share == ENCODER_SHARE
