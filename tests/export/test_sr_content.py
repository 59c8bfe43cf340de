"""What the DICOM objects of a series report, and the UIDs that follow from it."""

from dataclasses import replace

import numpy as np
import pytest

import ich3d
from ich3d.core.labels import LABELS
from ich3d.core.types import SliceKey
from ich3d.export.sr_content import ReportContent, positive_slices, report_content
from ich3d.inference.scoring import SeriesPrediction
from tests.helpers.dicom_results import MODEL_SHA256

KEYS = [SliceKey(f"1.2.{n}", None, f"{n}.dcm") for n in range(3)]


def slice_prob(**prob_by_label: tuple[float, float, float]) -> np.ndarray:
    """Probabilities (3, K) of three slices, 0.1 for the labels that are not given."""
    prob = np.full((3, len(LABELS)), 0.1)
    for label, values in prob_by_label.items():
        prob[:, LABELS.index(label)] = values
    return prob


def test_a_slice_is_flagged_from_the_threshold_on() -> None:
    slices = positive_slices(slice_prob(any=(0.499, 0.5, 0.9)), KEYS)
    assert slices["any"] == {"1.2.1": [], "1.2.2": []}


def test_a_subtype_is_shown_only_by_slices_that_are_flagged() -> None:
    slices = positive_slices(slice_prob(any=(0.4, 0.6, 0.6), subdural=(0.9, 0.9, 0.4)), KEYS)
    assert slices["subdural"] == {"1.2.1": []}
    assert slices["epidural"] == {}
    assert tuple(slices) == LABELS


def test_frames_of_one_file_are_listed_together() -> None:
    keys = [SliceKey("1.2.3", frame, "a.dcm") for frame in (3, 2, 1)]
    slices = positive_slices(slice_prob(any=(0.9, 0.1, 0.9)), keys)
    assert slices["any"] == {"1.2.3": [3, 1]}


def test_the_series_has_the_largest_probability_of_its_slices(bleeding: SeriesPrediction) -> None:
    content = report_content(bleeding, MODEL_SHA256)
    assert tuple(content.series_prob) == LABELS
    assert content.series_prob["subdural"] == 0.875
    assert content.series_prob["subarachnoid"] == 0.1
    keys = bleeding.series.keys
    assert content.strongest_slices["subdural"] == (keys[3].sop_uid, None)
    assert content.strongest_slices["subarachnoid"] == (keys[0].sop_uid, None)
    assert content.algorithm_parameters[:2] == (f"model_sha256={MODEL_SHA256}", "flag_at=0.5")


def test_the_report_says_which_series_speaks_for_its_study(bleeding: SeriesPrediction) -> None:
    plain = report_content(bleeding, MODEL_SHA256)
    leading = report_content(replace(bleeding, leads="soft kernel"), MODEL_SHA256)
    assert (plain.leads_study, leading.leads_study) == (False, True)
    (text,) = set(leading.algorithm_parameters) - set(plain.algorithm_parameters)
    assert text == "Series that speaks for its study: soft kernel"
    assert plain.content_uid("SR") != leading.content_uid("SR")


CONTENT = ReportContent(
    volume_id="1.2.3",
    series_prob={"subdural": 0.75, "any": 0.875},
    positive_slices={"subdural": {"1.2.3.4": [2]}, "any": {"1.2.3.4": [2, 3], "1.2.3.5": []}},
    strongest_slices={"subdural": ("1.2.3.4", 2), "any": ("1.2.3.5", None)},
    algorithm_parameters=("model_sha256=ab", "flag_at=0.5"),
)


def test_uids_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that holds an object must get the same UID for it after an update of the code.

    They changed once, when the report began to name the strongest slice.
    """
    monkeypatch.setattr(ich3d, "__version__", "0.1.0")
    assert CONTENT.content_uid("SR") == "2.25.329476016059549983343235683811994010182"
    assert CONTENT.content_uid("KO", "series") == "2.25.74678100384259127431656283483859227661"


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTENT, volume_id="1.2.4"),
        replace(CONTENT, series_prob={"subdural": 0.75, "any": 0.876}),
        replace(CONTENT, positive_slices={"subdural": {}, "any": {"1.2.3.5": []}}),
        replace(CONTENT, strongest_slices={"subdural": ("1.2.3.4", 2), "any": ("1.2.3.4", 3)}),
        replace(CONTENT, algorithm_parameters=("model_sha256=cd", "flag_at=0.5")),
    ],
    ids=["volume", "probability", "slices", "strongest", "model"],
)
def test_another_content_has_another_uid(other: ReportContent) -> None:
    assert other.content_uid("SR") != CONTENT.content_uid("SR")
