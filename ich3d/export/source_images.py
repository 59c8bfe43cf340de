"""The CT images behind a prediction: what DICOM objects need to refer to them.

DICOM and highdicom call them the evidence of a document (PS3.3 C.17.2.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, Rejected
from ich3d.dicom.files import open_file
from ich3d.dicom.headers.deflated import inflated
from ich3d.dicom.headers.elements import InvalidHeader, tag_text
from ich3d.dicom.headers.read import CT_CLASSES
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

if TYPE_CHECKING:
    from highdicom import SOPClass

    from ich3d.inference.scoring import SeriesPrediction

_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_REFERENCE_KEYWORDS: Final = (*_UIDS, "Rows", "Columns")
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_TEXT_VRS: Final = (
    "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
    "UT",
)  # fmt: skip
"""VRs whose values are bytes of text in every transfer syntax (PS3.5 6.2)."""

_EMPTY_KEYWORDS: Final = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes that highdicom requires of its evidence.

highdicom refuses values that violate the standard and logs unusual names. So it receives these
attributes empty, and `SourceImages.copy_patient_study` copies the true values into the document
afterwards.
"""


@dataclass(frozen=True)
class SourceImages:
    """The SOP instances of one scored series, inferior to superior.

    Attributes:
        instances: What highdicom needs to refer to an image, by SOPInstanceUID.
        header: The whole header of the first instance, without pixels.
        raw_texts: The text elements of `header` by tag, with the bytes of the file.
    """

    instances: dict[str, Dataset]
    header: Dataset
    raw_texts: dict[BaseTag, RawDataElement]

    def copy_patient_study(self, document: "SOPClass") -> dict[BaseTag, RawDataElement]:
        """Copy the Patient and Study modules of the source into `document`.

        Texts are left empty there and returned, for `store_texts`: their bytes must not be decoded
        and encoded again, since a file may use another character set than it declares
        (SpecificCharacterSet, PS3.3 C.12.1.1.2).
        """
        if "SpecificCharacterSet" in self.header:
            document["SpecificCharacterSet"] = self.header["SpecificCharacterSet"]
        document.copy_patient_and_study_information(self.header)

        texts = {}
        for tag in list(document.keys()):
            is_copied = document.get_item(tag) is self.header.get(tag)
            if is_copied and tag in self.raw_texts:
                texts[tag] = self.raw_texts[tag]
                document[tag] = DataElement(tag, texts[tag].VR or "LO", "")
        return texts


def store_texts(path: Path, texts: Mapping[BaseTag, RawDataElement]) -> None:
    """Put elements into the DICOM file at `path`, with their bytes as they are."""
    # pydicom writes the bytes of raw elements unchanged into a data set whose encoding is that of
    # the file it was read from; into a new one it would encode them anew.
    dataset = pydicom.dcmread(path)
    for tag, element in texts.items():
        dataset[tag] = element
    dataset.save_as(path, enforce_file_format=True)


def read_source_images(prediction: "SeriesPrediction") -> SourceImages | Rejected:
    """Read the headers of a scored series again and check that a DICOM object can refer to them.

    Returns Rejected where a UID is missing or invalid (PS3.5 9.1), two files share a
    SOPInstanceUID, the SOP class is not CT, or a file can no longer be read.
    """
    series = prediction.series
    # A multi-frame file holds several slices; it is read once.
    names = {file: key.path for file, key in zip(prediction.files, series.keys, strict=True)}

    headers: dict[str, Dataset] = {}
    for file, name in names.items():
        try:
            header = _read_header(file)
            if header.SOPInstanceUID in headers:
                raise InvalidHeader(
                    IssueCode.REPEATED_SOP_UID,
                    f"{tag_text('SOPInstanceUID')} is that of another file",
                )
        except InvalidHeader as error:
            detail = f"no DICOM results: {name}: {error}"
            return Rejected(series.volume_id, error.code, detail, tuple(names.values()))
        headers[header.SOPInstanceUID] = header

    instances = {sop_uid: _reference_instance(header) for sop_uid, header in headers.items()}
    first = next(iter(headers.values()))
    return SourceImages(instances, first, _raw_texts(first))


def _raw_texts(header: Dataset) -> dict[BaseTag, RawDataElement]:
    """The text elements of a header that was just read, as they are written to explicit VR files.

    Values have an even length (PS3.5 7.1.1), which a space keeps.
    """
    texts: dict[BaseTag, RawDataElement] = {}
    for tag in list(header.keys()):
        element = header.get_item(tag)
        if not isinstance(element, RawDataElement) or not dictionary_has_tag(tag):
            continue
        vr, value = dictionary_VR(tag), element.value or b""
        if vr in _TEXT_VRS and tag != _SPECIFIC_CHARACTER_SET:
            value += b" " * (len(value) % 2)
            texts[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return texts


def _read_header(file: FileRef) -> Dataset:
    """Read one header without pixels; raises InvalidHeader where no object can refer to it."""
    with suppress_pydicom_warnings():
        try:
            with open_file(file) as (stream, size), inflated(stream, size) as (plain, _, _):
                header = pydicom.dcmread(plain, stop_before_pixels=True, force=True)
        except Exception:
            # The file was readable when it was scored. It has changed since, in whatever way.
            raise InvalidHeader(IssueCode.UNREADABLE, "can no longer be read") from None

        _check_uids(header)
    return header


def _check_uids(header: Dataset) -> None:
    """Raise InvalidHeader where a UID is missing or invalid or the SOP class is not CT."""
    for keyword in _UIDS:
        value = str(header.get(keyword) or "")
        if not value:
            raise InvalidHeader(IssueCode.NO_UID, f"{tag_text(keyword)} is missing")
        if not UID(value).is_valid:
            raise InvalidHeader(IssueCode.INVALID_UID, f"{tag_text(keyword)} is not a valid UID")

    if header.SOPClassUID not in CT_CLASSES:
        raise InvalidHeader(IssueCode.NOT_CT, f"{tag_text('SOPClassUID')} is not a CT image class")


def _reference_instance(header: Dataset) -> Dataset:
    """The part of `header` that references name, and empty values for what highdicom requires."""
    instance = Dataset()
    for keyword in _REFERENCE_KEYWORDS:
        setattr(instance, keyword, header[keyword].value)
    for keyword in _EMPTY_KEYWORDS:
        setattr(instance, keyword, "")
    return instance
