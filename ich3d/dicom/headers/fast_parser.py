"""A header without pydicom, where the file is an ordinary one: the same elements in a tenth of the time."""

from typing import Final

from ich3d.dicom.headers.element_scanner import UnusualFile, Value, scan_elements
from ich3d.dicom.headers.elements import PIXEL_DATA, TAGS, Elements

_KEYWORDS: Final = {tag: keyword for keyword, tag in TAGS.items() if tag != PIXEL_DATA}
_FRAMED: Final = frozenset(
    {TAGS["SharedFunctionalGroupsSequence"], TAGS["PerFrameFunctionalGroupsSequence"]}
)


def fast_parse(beginning: bytes) -> Elements | None:
    """What `parse` would say of a file, from its first bytes; None where they are not enough, or where
    anything about them is unusual."""
    try:
        found = scan_elements(beginning, _KEYWORDS)
        if _FRAMED & found.values.keys():
            return None
        values = {
            _KEYWORDS[tag]: value.raw for tag, value in found.values.items() if tag in _KEYWORDS
        }
        patient = found.values.get(TAGS["PatientID"])
        patient_id = _plain_text(patient) if patient else ""
    except UnusualFile:
        return None
    return Elements(
        values=values,
        patient_id=patient_id,
        transfer_syntax=found.transfer_syntax,
        order="<",
        pixels_at=found.pixels_at,
        pixels_length=found.pixels_length,
    )


def _plain_text(value: Value) -> str:
    """One long string in ASCII; another VR, a character set or a second value is pydicom's to read."""
    if value.vr not in (b"", b"LO"):
        raise UnusualFile
    text = value.raw.rstrip(b"\0 ").decode("latin-1")
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        raise UnusualFile
    return text.strip()
