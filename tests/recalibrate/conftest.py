"""A hospital whose phantoms a model with a frozen network has scored and embedded."""

import numpy as np
import pandas as pd
import pytest

from ich3d.config.schema import PhantomConfig
from ich3d.core.labels import ANY, LABELS
from ich3d.core.workspace import read_csv
from ich3d.inference.embeddings import embeddings_writer
from ich3d.inference.run import predict_to_folder
from ich3d.inference.tables import SLICE_TEXT
from ich3d.phantom import write_phantoms
from tests.helpers.hospital import Hospital, write_frozen_model

N_STUDIES = 10


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("hospital")
    model = write_frozen_model(folder / "model")
    config = PhantomConfig(studies=N_STUDIES, matrix=64, thickness_mm=(10.0,))
    list(write_phantoms(config, 5, folder / "studies"))
    writers = {"embeddings": embeddings_writer(folder / "out" / "embeddings", model)}
    predict_to_folder(model, [folder / "studies"], folder / "out", writers=writers)

    slices = read_csv(folder / "out" / "slices.csv", text=SLICE_TEXT)
    n_slices = slices.groupby("volume_id")["slice_index"].transform("max") + 1
    bleeds = (slices["slice_index"] >= n_slices / 2).astype(float).to_numpy()
    labels = pd.DataFrame(
        np.zeros((len(slices), len(LABELS))),
        index=pd.Index(slices["sop_uid"], name="sop_uid"),
        columns=list(LABELS),
    )
    labels["epidural"] = labels[ANY] = bleeds
    return Hospital(model, folder / "model", folder / "out", labels)
