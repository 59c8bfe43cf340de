"""A context model is trained on embeddings of patients whom their encoders never saw."""

import pytest

from ich3d.context.train import require_held_out
from ich3d.core.errors import LeakageError
from tests.helpers.embedded import random_embedded


def test_a_model_that_saw_the_patient_is_refused() -> None:
    series = random_embedded(3)
    require_held_out("p2", series.encoder_id, series.training_groups)
    with pytest.raises(LeakageError, match="encoder fold 0 was trained on group p1"):
        require_held_out("p1", series.encoder_id, series.training_groups)
