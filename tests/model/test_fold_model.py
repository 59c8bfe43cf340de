"""A fold's three stages score a series one after the other."""

import numpy as np
import pytest

from ich3d.config.schema import StackConfig
from ich3d.context.score import score_context
from ich3d.core.labels import STAGES
from ich3d.core.metrics import sigmoid
from ich3d.core.types import TrainingGroups
from ich3d.model.fold_model import FoldModel, stacker_features
from ich3d.stack.booster import Stacker, coherent, fit_stacker
from ich3d.stack.features import build_features
from tests.helpers.embedded import EMBEDDING_WIDTH, random_embedded
from tests.helpers.networks import random_contexts, random_encoders
from tests.helpers.stack_rows import predictable_rows

N_SLICES = 9
Z_MM = 5.0 * np.arange(N_SLICES)
EMBEDDED = random_embedded(N_SLICES)
NETWORK_INPUTS = (EMBEDDED.embeddings, EMBEDDED.logits, Z_MM, EMBEDDED.hu_features)


@pytest.fixture(scope="module")
def stacker() -> Stacker:
    return fit_stacker(predictable_rows(), StackConfig(num_trees=40), seed=0)


def fold_model_with(stacker: Stacker) -> FoldModel:
    """A fold model of random networks; its encoder is not run by these tests."""
    return FoldModel(
        fold=1,
        encoder=random_encoders(1),
        context=random_contexts(EMBEDDING_WIDTH, 2),
        stacker=stacker,
        training_groups=TrainingGroups.of(["p1"]),
    )


def test_each_stage_reads_the_one_before(stacker: Stacker) -> None:
    fold_model = fold_model_with(stacker)
    outputs = fold_model.score(*NETWORK_INPUTS)
    assert tuple(outputs.prob) == STAGES
    np.testing.assert_allclose(outputs.prob["encoder"], sigmoid(EMBEDDED.logits), atol=1e-6)

    context_prob = score_context(fold_model.context, outputs.embedded, Z_MM)
    np.testing.assert_array_equal(outputs.prob["context"], context_prob)
    stack_prob = coherent(stacker.score(outputs.features, context_prob))
    np.testing.assert_array_equal(outputs.prob["stack"], stack_prob)
    assert np.abs(stack_prob - context_prob).max() > 0.01


def test_outputs_carry_the_training_groups_of_their_encoder() -> None:
    outputs = fold_model_with(Stacker.empty()).score(
        EMBEDDED.embeddings, EMBEDDED.logits, Z_MM, EMBEDDED.hu_features
    )
    assert outputs.embedded.training_groups == TrainingGroups.of(["p1"])
    assert outputs.embedded.encoder_id == "encoder fold 1"


def test_all_stages_give_single_precision(stacker: Stacker) -> None:
    outputs = fold_model_with(stacker).score(
        EMBEDDED.embeddings, EMBEDDED.logits, Z_MM, EMBEDDED.hu_features
    )
    for stage in STAGES:
        assert outputs.prob[stage].shape == EMBEDDED.logits.shape
        assert outputs.prob[stage].dtype == np.float32


def test_the_stacker_reads_both_stages_before_it() -> None:
    context_prob = sigmoid(random_embedded(N_SLICES, seed=1).logits)
    features = stacker_features(EMBEDDED, context_prob, Z_MM, reach_mm=10.0)
    prob = {"encoder": sigmoid(EMBEDDED.logits), "context": context_prob}
    assert features.equals(build_features(prob, Z_MM, 10.0, EMBEDDED.hu_features))
