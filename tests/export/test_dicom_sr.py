"""DICOM objects written from real files, read back with highdicom, dciodvfy and a table."""

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage

import ich3d
from ich3d.core.errors import UserError
from ich3d.core.labels import LABELS
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export import dicom_writer, require_highdicom
from ich3d.export.concepts import CODED_FINDINGS
from ich3d.inference.scoring import SeriesPrediction
from tests.helpers.dicom_results import (
    MODEL_SHA256,
    PATIENT_AND_STUDY,
    dciodvfy_errors,
    predicted_series,
    raw_values,
    store_implicit,
    text_without_times,
    write_enhanced,
    write_objects,
)
from tests.helpers.series import edit
from tests.helpers.tid1500 import (
    children_named,
    concept_name,
    measurement_groups,
    referenced_images,
    template_errors,
)

DCM: Any = codes.DCM
SCT: Any = codes.SCT
UCUM: Any = codes.UCUM


def test_the_report_follows_tid_1500(written: tuple[Path, ...]) -> None:
    report = pydicom.dcmread(written[0])
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.file_meta.MediaStorageSOPClassUID == Comprehensive3DSRStorage
    assert list(template_errors(report)) == []
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"


def test_the_template_table_finds_errors(written: tuple[Path, ...]) -> None:
    report = pydicom.dcmread(written[0])
    groups = measurement_groups(report)
    groups["epidural"].ContentSequence.append(groups["epidural"].ContentSequence.pop(0))
    groups["any"].ContentTemplateSequence[0].MappingResource = "OURS"
    problems = [error.split(": ")[1] for error in template_errors(report)]
    assert problems == ["out of order", "template 1501"]


def test_each_label_has_its_finding_site_probability_and_slices(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    groups = measurement_groups(pydicom.dcmread(written[0]))
    assert tuple(groups) == LABELS
    positive_slices = {"epidural": [3], "subdural": [2, 3], "any": [2, 3]}

    for k, (label, group) in enumerate(groups.items()):
        (finding,) = children_named(group, DCM.Finding)
        (site,) = children_named(group, SCT.FindingSite)
        coded = CODED_FINDINGS[label]
        assert concept_name(finding, "ConceptCodeSequence") == coded.finding.code
        assert concept_name(site, "ConceptCodeSequence") == coded.site.code

        (probability,) = children_named(group, DCM.Probability)
        (value,) = probability.MeasuredValueSequence
        largest = bleeding.prob["stack"][:, k].max()
        assert float(value.NumericValue) == pytest.approx(largest, abs=1e-7)
        assert concept_name(value, "MeasurementUnitsCodeSequence") == UCUM.NoUnits

        indices = positive_slices.get(label, [])
        expected = [(bleeding.series.keys[index].sop_uid, None) for index in indices]
        assert referenced_images(group) == expected


def test_each_probability_is_inferred_from_the_slice_that_has_it(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    """OHIF shows a measurement only with coordinates, and jumps to their slice."""
    sources = [pydicom.dcmread(path) for path in sorted({f.path for f in bleeding.files})]
    sizes = {source.SOPInstanceUID: (source.Columns, source.Rows) for source in sources}
    strongest = {"epidural": 3, "subdural": 3, "any": 3}

    for label, group in measurement_groups(pydicom.dcmread(written[0])).items():
        (probability,) = children_named(group, DCM.Probability)
        (outline,) = children_named(probability, SCT.Source)
        sop_uid = bleeding.series.keys[strongest.get(label, 0)].sop_uid
        assert referenced_images(outline) == [(sop_uid, None)]

        right, bottom = sizes[sop_uid]
        assert outline.GraphicType == "POLYLINE"
        assert outline.GraphicData == [0, 0, right, 0, right, bottom, 0, bottom, 0, 0]

        (comment,) = children_named(group, DCM.Comment)
        assert comment.TextValue == f"{label} hemorrhage"


def test_highdicom_reads_the_report_back(written: tuple[Path, ...]) -> None:
    content: Any = highdicom.sr.srread(written[0]).content
    groups = content.get_image_measurement_groups()
    measurements = {group.tracking_identifier: group.get_measurements()[0] for group in groups}
    assert {label: measurement.value for label, measurement in measurements.items()} == {
        "epidural": 0.875, "intraparenchymal": 0.1, "intraventricular": 0.1, "subarachnoid": 0.1,
        "subdural": 0.875, "any": 0.875,
    }  # fmt: skip
    assert {measurement.unit.value for measurement in measurements.values()} == {"1"}

    (observer,) = content.get_observer_contexts()
    assert observer.observer_type == DCM.Device
    assert observer.observer_identifying_attributes.name == "ich3d"


def test_the_report_names_algorithm_model_and_threshold(written: tuple[Path, ...]) -> None:
    groups = measurement_groups(pydicom.dcmread(written[0]))
    assert groups
    for group in groups.values():
        (name,) = children_named(group, DCM.AlgorithmName)
        (version,) = children_named(group, DCM.AlgorithmVersion)
        parameters = children_named(group, DCM.AlgorithmParameters)
        assert (name.TextValue, version.TextValue) == ("ich3d", ich3d.__version__)
        assert parameters[0].TextValue == f"model_sha256={MODEL_SHA256}"
        assert parameters[1].TextValue == "flag_at=0.5"


def test_the_report_lists_all_scored_slices_as_evidence(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    report = highdicom.sr.srread(written[0])
    series = bleeding.series
    references = [reference[:3] for reference in report.get_evidence()]
    expected = [(series.study_uid, series.series_uid, key.sop_uid) for key in series.keys]
    assert references == expected


def test_the_key_objects_are_the_flagged_slices(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    selection = pydicom.dcmread(written[1])
    assert selection.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert concept_name(selection) == DCM.OfInterest

    flagged = [key.sop_uid for key in bleeding.series.keys[2:4]]
    assert referenced_images(selection) == [(sop_uid, None) for sop_uid in flagged]
    (study,) = selection.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    evidence = [reference.ReferencedSOPInstanceUID for reference in series.ReferencedSOPSequence]
    assert evidence == flagged

    (description,) = children_named(selection, DCM.KeyObjectDescription)
    assert MODEL_SHA256 in description.TextValue


def test_a_series_that_speaks_for_its_study_is_described_so(
    bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    for path in write_objects(replace(bleeding, leads="soft kernel"), tmp_path):
        description = pydicom.dcmread(path).SeriesDescription
        assert description.endswith(", lead series")
        assert len(description) <= 64


@pytest.mark.parametrize(
    ("change", "flagged"), [(0.001, 3), (0.0, 2), (-0.25, 2), (-0.251, 1), (-0.4, 0)]
)
def test_a_series_without_flagged_slices_has_no_key_objects(
    bleeding: SeriesPrediction, written: tuple[Path, ...], change: float, flagged: int
) -> None:
    """The three highest slices of `any` have .499, .75 and .875; an older selection is deleted."""
    prob = np.clip(bleeding.prob["stack"].astype(np.float64).round(3) + change, 0, 1)
    prediction = replace(bleeding, prob={"stack": prob})

    paths = write_objects(prediction, written[0].parent)

    groups = measurement_groups(pydicom.dcmread(paths[0]))
    assert len(referenced_images(groups["any"])) == flagged
    assert len(paths) == (2 if flagged else 1)
    assert sorted(written[0].parent.iterdir()) == sorted(paths)


def test_only_patient_and_study_are_copied_from_the_source(
    written: tuple[Path, ...], head_folder: Path
) -> None:
    keywords = (*PATIENT_AND_STUDY, "PatientID", "StudyInstanceUID")
    for path in written:
        assert raw_values(path, *keywords) == raw_values(head_folder / "0.dcm", *keywords)
        dataset = pydicom.dcmread(path)
        assert str(dataset.PatientName) == PATIENT_AND_STUDY["PatientName"]
        assert dataset.Manufacturer == "ich3d"
        assert not {"InstitutionName", "StationName", "SliceThickness"} & set(dataset.dir())
        assert "Secret Hospital" not in str(dataset)


@pytest.mark.parametrize(
    "values",
    [
        # the Japanese name of PS3.5 H.3.1
        {
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        },
        # an age that violates the standard
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jürgen", "PatientAge": "old"},
        # a name of one component, and a sex that is not a defined term
        {"PatientName": "Secret Patient", "PatientSex": "W"},
    ],
    ids=["multi-byte", "UTF-8", "invalid sex"],
)
def test_unusual_and_invalid_values_are_copied_byte_for_byte(
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    values: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns while it writes invalid values
        (path, *_) = write_series(make_head("odd", extra=values), tmp_path / "in")
    keywords = (*values, "PatientID", "StudyInstanceUID")

    written = write_objects(predicted_series(tmp_path / "in", (1, "any", 0.9)), tmp_path / "out")

    assert len(written) == 2
    for written_path in written:
        assert raw_values(written_path, *keywords) == raw_values(path, *keywords)
    assert values["PatientName"] not in caplog.text


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (b"ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5")),
        (b"ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"),
        (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
        (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode()),
        (b"ISO_IR 192", "Müller^Jürgen".encode("latin-1")),
        (b"ISO_IR 100", "Wang^XiaoDong=王^小東".encode()),
        (b"ISO_IR 999", "Müller^Jürgen".encode("latin-1")),
        (None, "Müller^Jürgen".encode()),
    ],
    ids=["Latin-1", "Cyrillic", "Katakana", "Korean", "Japanese", "GB18030", "UTF-8",
         "UTF-8 that is Latin-1", "Latin-1 that is UTF-8", "unknown", "not declared"],
)  # fmt: skip
@pytest.mark.parametrize("implicit", [False, True])
def test_names_and_ids_keep_their_bytes_in_every_character_set(
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    character_set: bytes | None,
    name: bytes,
    implicit: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name += b" " * (len(name) % 2)
    texts = {"PatientName": name, "PatientID": name, "ReferringPhysicianName": name}
    paths = write_series(make_head("named"), tmp_path / "in")
    for path in paths:
        if implicit:
            store_implicit(path)
        if character_set:
            edit(path, SpecificCharacterSet=character_set)
        edit(path, **texts)
        assert path.read_bytes().count(name) == len(texts)
    capfd.readouterr()

    written = write_objects(predicted_series(tmp_path / "in", (1, "any", 0.9)), tmp_path / "out")

    assert len(written) == 2
    length = len(name).to_bytes(2, "little")
    for path in written:
        content = path.read_bytes()
        for start in (b"\x10\0\x10\0PN", b"\x10\0\x20\0LO", b"\x08\0\x90\0PN"):
            assert start + length + name in content
        declared = content.partition(b"\x08\0\x05\0CS")[2][2:]
        assert declared.startswith(character_set or b"")
        assert bool(declared) == bool(character_set)
    assert capfd.readouterr() == ("", "")  # where pydicom's warnings would be


def test_file_names_and_log_do_not_identify_the_patient(
    bleeding: SeriesPrediction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    paths = write_objects(bleeding, tmp_path / "out")
    volume_id = bleeding.series.volume_id
    assert [path.name for path in paths] == [f"{volume_id}.sr.dcm", f"{volume_id}.ko.dcm"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    for secret in ("Secret", "Sécrète", "patient named", "19010101"):
        assert secret not in caplog.text


def test_equal_results_give_equal_objects(
    written: tuple[Path, ...], bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    again = write_objects(bleeding, tmp_path / "again")
    assert list(map(text_without_times, again)) == list(map(text_without_times, written))


def test_another_model_or_other_scores_give_other_uids(
    written: tuple[Path, ...], bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    other_prob = bleeding.prob["stack"] * np.float32(0.9)
    other_scores = replace(bleeding, prob={"stack": other_prob})
    paths = [
        *written,
        *write_objects(bleeding, tmp_path / "model", "6f" * 32),
        *write_objects(other_scores, tmp_path / "scores"),
    ]
    datasets = [pydicom.dcmread(path) for path in paths]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 6
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 6
    assert {dataset.StudyInstanceUID for dataset in datasets} == {bleeding.series.study_uid}


def test_a_finding_keeps_its_tracking_uid_with_another_model(
    bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    def tracking_uids(model_sha256: str) -> list[str]:
        path = write_objects(bleeding, tmp_path / model_sha256, model_sha256)[0]
        return [
            str(children_named(group, DCM.TrackingUniqueIdentifier)[0].UID)
            for group in measurement_groups(pydicom.dcmread(path)).values()
        ]

    assert tracking_uids("a") == tracking_uids("b")
    assert len(set(tracking_uids("a"))) == len(LABELS)


def test_frames_of_a_multi_frame_file_are_referenced_by_number(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    path = write_enhanced(make_head("frames"), tmp_path / "in")
    prediction = predicted_series(path, (1, "subdural", 0.9), (4, "any", 0.8))
    assert [key.frame for key in prediction.series.keys] == [6, 5, 4, 3, 2, 1]

    sr_path, ko_path = write_objects(prediction, tmp_path / "out")

    groups = measurement_groups(pydicom.dcmread(sr_path))
    sop_uid = prediction.series.keys[0].sop_uid
    assert referenced_images(groups["any"]) == [(sop_uid, [5, 2])]
    assert referenced_images(groups["subdural"]) == [(sop_uid, 5)]
    (probability,) = children_named(groups["subdural"], DCM.Probability)
    assert referenced_images(children_named(probability, SCT.Source)[0]) == [(sop_uid, 5)]
    assert referenced_images(pydicom.dcmread(ko_path)) == [(sop_uid, [5, 2])]
    assert dciodvfy_errors(sr_path) == dciodvfy_errors(ko_path) == []


def test_the_writer_reports_the_series_that_it_could_not_write(
    bleeding: SeriesPrediction, head_folder: Path, tmp_path: Path
) -> None:
    writer = dicom_writer(tmp_path / "dicom", MODEL_SHA256)
    assert writer.write([bleeding]) == ()
    assert len(list(writer.folder.iterdir())) == 2

    (head_folder / "5.dcm").unlink()
    (rejected,) = writer.write([bleeding])
    assert rejected.subject == bleeding.series.volume_id


def test_dciodvfy_finds_no_error(written: tuple[Path, ...], tmp_path: Path) -> None:
    assert [dciodvfy_errors(path) for path in written] == [[], []]

    incomplete = pydicom.dcmread(written[0])
    del incomplete.CompletionFlag
    incomplete.save_as(tmp_path / "incomplete.dcm")
    assert dciodvfy_errors(tmp_path / "incomplete.dcm")


def test_the_room_is_imported_without_highdicom_and_torch() -> None:
    script = "import sys, ich3d.export; print({'highdicom', 'torch'} & set(sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert process.stdout.strip() == "set()"


def test_a_missing_highdicom_is_reported_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'ich3d\[dicom\]'"):
        require_highdicom()
