"""Results as DICOM, written from real files and read back by others: highdicom, dciodvfy, a walk of ours."""

import logging
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedCTImageStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

import ich3d
from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import UserError
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected, SliceKey
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export import require_highdicom, write_dicom_results
from ich3d.export.concepts import SIGNS
from ich3d.inference.scoring import SeriesPrediction
from ich3d.prepare.build import prepare_series
from tests.helpers.tid1500 import below, named, wrong

MODEL = "5e" * 32
PATIENT = {  # of the Patient, General Study and Patient Study modules
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Sécrète^Pätient",
    "PatientBirthDate": "19010101",
    "PatientSex": "F",
    "PatientComments": "Secret comment",
    "StudyDate": "20200102",
    "StudyTime": "030405",
    "StudyID": "7",
    "AccessionNumber": "Secret-42",
    "ReferringPhysicianName": "Secret^Doctor",
    "StudyDescription": "Schädel",
    "PatientAge": "119Y",
    "PatientWeight": "61.5",
}
NAMING = ("PatientID", "StudyInstanceUID")
OF_THE_SCANNER = {
    "InstitutionName": "Secret Hospital",
    "Manufacturer": "Maker",
    "StationName": "CT1",
}
OF_THE_MOMENT = {
    "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "ContributionDateTime",
}  # fmt: skip

Score = Callable[..., SeriesPrediction]


def score(path: Path, *bleeds: tuple[int, str, float]) -> SeriesPrediction:
    """The series below `path`, scored 0.1 but for `bleeds`: slice from below, label, probability."""
    found = index(path)
    (series,) = found.series
    prepared = prepare_series(series, PrepareConfig(matrix=48, pixel_mm=4.8))
    assert not isinstance(prepared, Rejected), prepared
    stored, hu = prepared
    file = {SliceKey(h.sop_uid, h.frame, h.file.name): h.file for h in series.headers}
    stack = np.full((len(hu), len(LABELS)), 0.1, dtype=np.float32)
    for z, label, prob in bleeds:
        stack[z, [LABELS.index(label), LABELS.index("any")]] = prob
    return SeriesPrediction(
        stored, tuple(file[key] for key in stored.keys), hu, {"stack": stack}, ()
    )


def write(item: SeriesPrediction, folder: Path, model: str = MODEL) -> tuple[Path, ...]:
    written = write_dicom_results(item, folder, model)
    assert not isinstance(written, Rejected), written
    return written


@pytest.fixture
def head(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    """A head of six slices with all that names a patient."""
    write_series(make_head("named", extra={**PATIENT, **OF_THE_SCANNER}), tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture
def bleeding(head: Path) -> SeriesPrediction:
    """Subdural in slices 2 and 3, epidural in slice 3 as well; slice 4 stays just below the threshold."""
    return score(
        head,
        (2, "subdural", 0.75),
        (3, "subdural", 0.875),
        (3, "epidural", 0.875),
        (4, "any", 0.499),
    )


@pytest.fixture
def written(bleeding: SeriesPrediction, tmp_path: Path) -> tuple[Path, ...]:
    return write(bleeding, tmp_path / "out")


def images(item: Dataset) -> list[tuple[str, Any]]:
    """SOPInstanceUID and frame numbers of each image below a content item."""
    references = [child for child in item.ContentSequence if child.ValueType == "IMAGE"]
    inner = [child.ReferencedSOPSequence[0] for child in references]
    return [(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")) for image in inner]


def groups(report: Dataset) -> dict[str, Dataset]:
    """The measurement groups of a report by tracking identifier."""
    (measurements,) = below(report, codes.DCM.ImagingMeasurements)
    inner = below(measurements, codes.DCM.MeasurementGroup)
    return {below(group, codes.DCM.TrackingIdentifier)[0].TextValue: group for group in inner}


def plain(path: Path) -> str:
    """The text of an object without the elements that tell when it was written."""
    ds = pydicom.dcmread(path)
    ds.walk(
        lambda inner, element: inner.pop(element.tag) if element.keyword in OF_THE_MOMENT else None
    )
    return str(ds)


def test_the_report_is_a_tid_1500_tree(written: tuple[Path, ...]) -> None:
    report = pydicom.dcmread(written[0])
    assert (
        report.SOPClassUID == report.file_meta.MediaStorageSOPClassUID == Comprehensive3DSRStorage
    )
    assert list(wrong(report)) == []
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip


def test_the_walk_sees_a_tree_that_is_none(written: tuple[Path, ...]) -> None:
    report = pydicom.dcmread(written[0])
    group = groups(report)["epidural"]
    group.ContentSequence.append(group.ContentSequence.pop(0))
    del groups(report)["any"].ContentTemplateSequence[0].MappingResource
    groups(report)["any"].ContentTemplateSequence[0].MappingResource = "OURS"
    assert [line.split(": ")[1] for line in wrong(report)] == ["out of order", "template 1501"]


def test_each_label_has_its_finding_site_probability_and_slices(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    report = pydicom.dcmread(written[0])
    assert tuple(groups(report)) == LABELS
    slices = {"epidural": [3], "subdural": [2, 3], "any": [2, 3]}
    for k, (label, group) in enumerate(groups(report).items()):
        (finding,), (site,) = below(group, codes.DCM.Finding), below(group, codes.SCT.FindingSite)
        assert named(finding, "ConceptCodeSequence") == SIGNS[label].finding.code
        assert named(site, "ConceptCodeSequence") == SIGNS[label].site.code
        ((value,),) = (item.MeasuredValueSequence for item in below(group, codes.DCM.Probability))
        assert float(value.NumericValue) == pytest.approx(
            bleeding.prob["stack"][:, k].max(), abs=1e-7
        )
        assert named(value, "MeasurementUnitsCodeSequence") == codes.UCUM.NoUnits
        expected = [(bleeding.stored.keys[z].sop_uid, None) for z in slices.get(label, [])]
        assert images(group) == expected


def test_highdicom_reads_the_report_back(written: tuple[Path, ...]) -> None:
    report = highdicom.sr.srread(written[0])
    found = report.content.get_image_measurement_groups()
    measured = {group.tracking_identifier: group.get_measurements()[0] for group in found}
    assert {label: item.value for label, item in measured.items()} == {
        "epidural": 0.875, "intraparenchymal": 0.1, "intraventricular": 0.1, "subarachnoid": 0.1,
        "subdural": 0.875, "any": 0.875,
    }  # fmt: skip
    assert {item.unit.value for item in measured.values()} == {"1"}
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_type == codes.DCM.Device
    assert observer.observer_identifying_attributes.name == "ich3d"


def test_the_report_names_the_algorithm_its_model_and_its_threshold(
    written: tuple[Path, ...],
) -> None:
    for group in groups(pydicom.dcmread(written[0])).values():
        assert [item.TextValue for item in below(group, codes.DCM.AlgorithmName)] == ["ich3d"]
        assert [item.TextValue for item in below(group, codes.DCM.AlgorithmVersion)] == [
            ich3d.__version__
        ]
        parameters = [item.TextValue for item in below(group, codes.DCM.AlgorithmParameters)]
        assert parameters[:2] == [f"model_sha256={MODEL}", "flag_at=0.5"]


def test_the_report_lists_all_scored_slices_as_evidence(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    report = highdicom.sr.srread(written[0])
    stored = bleeding.stored
    listed = [(study, series, sop) for study, series, sop, _ in report.get_evidence()]
    assert listed == [(stored.study_uid, stored.series_uid, key.sop_uid) for key in stored.keys]


def test_the_key_objects_are_the_flagged_slices(
    written: tuple[Path, ...], bleeding: SeriesPrediction
) -> None:
    ko = pydicom.dcmread(written[1])
    assert ko.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert named(ko) == codes.DCM.OfInterest
    flagged = [key.sop_uid for key in bleeding.stored.keys[2:4]]
    assert images(ko) == [(name, None) for name in flagged]
    (study,) = ko.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == flagged
    (text,) = below(ko, codes.DCM.KeyObjectDescription)
    assert MODEL in text.TextValue


def test_a_slice_is_flagged_from_the_threshold_on(
    bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    """The three highest slices of `any` have .499, .75 and .875."""
    for more, count in ((0.001, 3), (0.0, 2), (-0.25, 2), (-0.251, 1), (-0.4, 0)):
        prob = np.clip(bleeding.prob["stack"].astype(np.float64).round(3) + more, 0, 1)
        item = replace(bleeding, prob={"stack": prob})
        paths = write_dicom_results(item, tmp_path / "out", MODEL)
        assert not isinstance(paths, Rejected)
        assert len(images(groups(pydicom.dcmread(paths[0]))["any"])) == count
        kinds = sorted(path.name[-6:-4] for path in (tmp_path / "out").iterdir())
        assert kinds == (["ko", "sr"] if count else ["sr"])  # the last run's key objects are gone


def test_patient_and_study_are_the_sources_and_nothing_else_is(
    written: tuple[Path, ...], head: Path
) -> None:
    for path in written:
        assert raw(path, *PATIENT, *NAMING) == raw(head / "0.dcm", *PATIENT, *NAMING)
        ds = pydicom.dcmread(path)
        assert str(ds.PatientName) == PATIENT["PatientName"]
        assert ds.Manufacturer == "ich3d"
        assert not {"InstitutionName", "StationName", "SliceThickness"} & set(ds.dir())
        assert "Secret Hospital" not in str(ds)


@pytest.mark.parametrize(
    "odd",
    [
        # the Japanese name of PS3.5 H.3.1
        {
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        },
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jürgen", "PatientAge": "old"},
        {"PatientName": "Secret Patient", "PatientSex": "W"},  # one component; no defined term
    ],
)
def test_what_is_foreign_or_breaks_a_rule_is_copied_byte_for_byte(
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    odd: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # writing what breaks a rule
        (path, *_) = write_series(make_head("odd", extra=odd), tmp_path / "in")
    for result in write(score(tmp_path / "in", (1, "any", 0.9)), tmp_path / "out"):
        assert raw(result, *odd, *NAMING) == raw(path, *odd, *NAMING)
    assert odd["PatientName"] not in caplog.text


def raw(path: Path, *keywords: str) -> dict[str, bytes]:
    """The bytes of some elements of a file, as they lie there."""
    ds = pydicom.dcmread(path)
    return {
        keyword: ds.get_item(keyword).value
        for keyword in keywords
        if keyword != "SpecificCharacterSet"
    }


def test_no_name_or_log_line_tells_who_it_is(
    bleeding: SeriesPrediction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    paths = write(bleeding, tmp_path / "out")
    volume = bleeding.stored.volume_id
    assert [path.name for path in paths] == [f"{volume}.sr.dcm", f"{volume}.ko.dcm"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    for secret in ("Secret", "Sécrète", "patient named", "19010101"):
        assert secret not in caplog.text


def test_a_rerun_gives_the_same_objects_and_another_result_others(
    written: tuple[Path, ...], bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    again = write(bleeding, tmp_path / "again")
    assert [plain(path) for path in again] == [plain(path) for path in written]
    other = replace(bleeding, prob={"stack": bleeding.prob["stack"] * np.float32(0.9)})
    series = [
        written,
        write(bleeding, tmp_path / "model", "6f" * 32),
        write(other, tmp_path / "scores"),
    ]
    read = [pydicom.dcmread(path) for paths in series for path in paths]
    assert (
        len({ds.SOPInstanceUID for ds in read}) == len({ds.SeriesInstanceUID for ds in read}) == 6
    )
    assert {ds.StudyInstanceUID for ds in read} == {bleeding.stored.study_uid}


def test_a_finding_keeps_its_tracking_uid_from_model_to_model(
    bleeding: SeriesPrediction, tmp_path: Path
) -> None:
    trees = [groups(pydicom.dcmread(write(bleeding, tmp_path / model, model)[0])) for model in "ab"]
    told = [
        [below(group, codes.DCM.TrackingUniqueIdentifier)[0].UID for group in tree.values()]
        for tree in trees
    ]
    assert told[0] == told[1]
    assert len(set(told[0])) == len(LABELS)


def test_frames_of_a_multi_frame_file_are_named_by_number(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    item = score(
        write_enhanced(make_head("frames"), tmp_path / "in"), (1, "subdural", 0.9), (4, "any", 0.8)
    )
    assert [key.frame for key in item.stored.keys] == [6, 5, 4, 3, 2, 1]
    sr, ko = write(item, tmp_path / "out")
    name = item.stored.keys[0].sop_uid
    assert images(groups(pydicom.dcmread(sr))["any"]) == [(name, [5, 2])]
    assert images(groups(pydicom.dcmread(sr))["subdural"]) == [(name, 5)]
    assert images(pydicom.dcmread(ko)) == [(name, [5, 2])]
    assert errors_of_dciodvfy(sr) == errors_of_dciodvfy(ko) == []


def write_enhanced(series: SeriesToWrite, folder: Path) -> Path:
    """`series` as one Enhanced CT file whose first frame is the uppermost slice."""

    def macro(**values: Any) -> Sequence:
        inner = Dataset()
        for keyword, value in values.items():
            setattr(inner, keyword, value)
        return Sequence([inner])

    (path, *others) = write_series(series, folder)
    for other in others:
        other.unlink()
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(series.hu)
    ds.SharedFunctionalGroupsSequence = macro(
        PixelMeasuresSequence=macro(PixelSpacing=ds.PixelSpacing),
        PlaneOrientationSequence=macro(ImageOrientationPatient=ds.ImageOrientationPatient),
        PixelValueTransformationSequence=macro(RescaleSlope="1", RescaleIntercept="0"),
    )
    ds.PerFrameFunctionalGroupsSequence = [
        macro(PlanePositionSequence=macro(ImagePositionPatient=place.tolist()))[0]
        for place in series.position_mm[::-1]
    ]
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
        "RescaleIntercept", "AcquisitionNumber",
    ):  # fmt: skip
        del ds[keyword]
    ds.PixelData = series.hu[::-1].astype("<i2").tobytes()
    ds.save_as(path)
    return path


def test_slices_in_a_zip_are_evidence_too(
    bleeding: SeriesPrediction, head: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in head.iterdir():
            archive.write(path, f"deep/{path.name}")
    packed = replace(score(tmp_path / "study.zip"), prob=bleeding.prob)
    (loose, _), (zipped, _) = write(bleeding, tmp_path / "a"), write(packed, tmp_path / "b")
    assert plain(zipped) == plain(loose)


def foreign_uid(name: str) -> Callable[[Path], None]:
    """Gives a UID of the file the form of RSNA's: letters, in the same length."""

    def spoil(path: Path) -> None:
        own = str(pydicom.dcmread(path)[name].value)
        path.write_bytes(path.read_bytes().replace(own.encode(), b"ID_" + b"a" * (len(own) - 3)))

    return spoil


def without(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        ds = pydicom.dcmread(path)
        del ds[name]
        ds.save_as(path)

    return spoil


def secondary_capture(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.save_as(path)


def lowest_again(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID = uid("head slice", "named", 0)
    ds.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "only", "code", "tag"),
    [
        (
            foreign_uid("SOPInstanceUID"),
            "3.dcm",
            IssueCode.INVALID_UID,
            "SOPInstanceUID (0008,0018)",
        ),
        (
            foreign_uid("SeriesInstanceUID"),
            "",
            IssueCode.INVALID_UID,
            "SeriesInstanceUID (0020,000E)",
        ),
        (
            foreign_uid("StudyInstanceUID"),
            "",
            IssueCode.INVALID_UID,
            "StudyInstanceUID (0020,000D)",
        ),
        (without("StudyInstanceUID"), "", IssueCode.NO_UID, "StudyInstanceUID (0020,000D)"),
        (without("SeriesInstanceUID"), "", IssueCode.NO_UID, "SeriesInstanceUID (0020,000E)"),
        (without("SOPClassUID"), "2.dcm", IssueCode.NO_UID, "SOPClassUID (0008,0016)"),
        (secondary_capture, "", IssueCode.NOT_CT, "SOPClassUID (0008,0016)"),
        (lowest_again, "4.dcm", IssueCode.REPEATED_SOP_UID, "SOPInstanceUID (0008,0018)"),
    ],
)
def test_a_source_that_cannot_be_referred_to_gets_no_objects(
    head: Path, tmp_path: Path, spoil: Callable[[Path], None], only: str, code: IssueCode, tag: str
) -> None:
    for path in head.glob(only or "*"):
        spoil(path)
    item = score(head, (2, "any", 0.9))
    refused = write_dicom_results(item, tmp_path / "out", MODEL)
    assert isinstance(refused, Rejected)
    assert (refused.subject, refused.code) == (item.stored.volume_id, code)
    assert tag in refused.detail
    assert (only or "0.dcm") in refused.detail
    assert sorted(refused.paths) == [f"{n}.dcm" for n in range(6)]
    assert "Secret" not in refused.detail
    assert not (tmp_path / "out").exists()


def test_a_file_that_went_since_it_was_scored_is_named(
    bleeding: SeriesPrediction, head: Path, tmp_path: Path
) -> None:
    (head / "5.dcm").unlink()
    refused = write_dicom_results(bleeding, tmp_path / "out", MODEL)
    assert isinstance(refused, Rejected)
    assert refused.code == IssueCode.UNREADABLE
    assert "5.dcm" in refused.detail


def errors_of_dciodvfy(path: Path) -> list[str]:
    """What dicom3tools finds wrong; its warnings are on what the source leaves empty (Study Date, Time and
    ID) and on the designator of a private coding scheme."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run([program, path], capture_output=True, encoding="utf-8", check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert done.returncode == 0 or lines
    return lines


def test_dciodvfy_finds_no_error(written: tuple[Path, ...], tmp_path: Path) -> None:
    assert [errors_of_dciodvfy(path) for path in written] == [[], []]
    spoilt = pydicom.dcmread(written[0])
    del spoilt.CompletionFlag
    spoilt.save_as(tmp_path / "spoilt.dcm")
    assert errors_of_dciodvfy(tmp_path / "spoilt.dcm")


def test_the_room_imports_without_highdicom_and_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "import sys, ich3d.export; print({'highdicom', 'torch'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "set()"
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'ich3d\[dicom\]'"):
        require_highdicom()
