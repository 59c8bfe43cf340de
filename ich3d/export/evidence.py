"""The source slices behind a result: what its references name, and the header that it inherits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, Rejected
from ich3d.dicom.files import opened
from ich3d.dicom.headers.elements import InvalidHeader, tag_text
from ich3d.dicom.headers.read import CT_CLASSES
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

if TYPE_CHECKING:
    from highdicom import SOPClass

    from ich3d.inference.scoring import SeriesPrediction

_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_REFERRED: Final = (*_UIDS, "Rows", "Columns")
_BLANK: Final = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""highdicom asks its evidence for these, refuses values that break a rule, and logs names that look odd to
it. So it sees them empty, and a document gets them from `Evidence.copy_patient_study`."""


@dataclass(frozen=True)
class Evidence:
    """The SOP instances of one series, lowest first: `instances` holds what a reference needs of each, by
    SOPInstanceUID; `header` is the whole header of the lowest."""

    instances: dict[str, Dataset]
    header: Dataset

    def copy_patient_study(self, document: "SOPClass") -> None:
        """Give `document` the Patient and Study modules of the header, as they are."""
        with suppress_pydicom_warnings():
            if "SpecificCharacterSet" in self.header:
                document.SpecificCharacterSet = self.header.SpecificCharacterSet
            document.copy_patient_and_study_information(self.header)


def read_evidence(item: "SeriesPrediction") -> Evidence | Rejected:
    """The evidence behind `item`, or why no DICOM object may refer to it: a UID that is missing or not valid
    (PS3.5 9.1), one SOPInstanceUID in two files, another class than CT, a file that can no longer be read."""
    paths = {file: key.path for file, key in zip(item.files, item.stored.keys, strict=True)}
    instances: dict[str, Dataset] = {}
    headers = []
    for file, path in paths.items():
        try:
            with suppress_pydicom_warnings():
                header = _read(file)
                _require_referable(header)
            if header.SOPInstanceUID in instances:
                raise InvalidHeader(
                    IssueCode.REPEATED_SOP_UID,
                    f"{tag_text('SOPInstanceUID')} is that of another file",
                )
        except InvalidHeader as refusal:
            detail = f"no DICOM results: {path}: {refusal}"
            return Rejected(item.stored.volume_id, refusal.code, detail, tuple(paths.values()))
        instances[header.SOPInstanceUID] = _instance(header)
        headers.append(header)
    return Evidence(instances, headers[0])


def _read(file: FileRef) -> Dataset:
    try:
        with opened(file) as (stream, _):
            return pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    except (
        Exception
    ) as error:  # the file was sound when it was scored: whatever is wrong now came since
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"can no longer be read ({type(error).__name__})"
        ) from None


def _require_referable(header: Dataset) -> None:
    for keyword in _UIDS:
        value = str(header.get(keyword) or "")
        if not value:
            raise InvalidHeader(IssueCode.NO_UID, f"{tag_text(keyword)} is missing")
        if not UID(value).is_valid:
            raise InvalidHeader(IssueCode.INVALID_UID, f"{tag_text(keyword)} is no valid UID")
    if header.SOPClassUID not in CT_CLASSES:
        raise InvalidHeader(IssueCode.NOT_CT, f"{tag_text('SOPClassUID')} is no CT image")


def _instance(header: Dataset) -> Dataset:
    instance = Dataset()
    for keyword in _REFERRED:
        setattr(instance, keyword, header[keyword].value)
    for keyword in _BLANK:
        setattr(instance, keyword, "")
    return instance
