"""A header without pydicom, where the file is an ordinary one: the same elements in a tenth of the time."""

from typing import Final

from ich3d.dicom.elements import PIXEL_DATA, TAGS, Elements
from ich3d.dicom.walk import Unusual, walk

_KEYWORDS: Final = {tag: keyword for keyword, tag in TAGS.items() if tag != PIXEL_DATA}
_FRAMED: Final = frozenset({TAGS["SharedFunctionalGroupsSequence"], TAGS["PerFrameFunctionalGroupsSequence"]})


def skimmed(beginning: bytes) -> Elements | None:
    """What `parse` would say of a file, from its first bytes; None where they are not enough, or where
    anything about them is unusual."""
    try:
        found = walk(beginning, _KEYWORDS)
        if _FRAMED & found.values.keys():
            return None
        values = {_KEYWORDS[tag]: value.raw for tag, value in found.values.items() if tag in _KEYWORDS}
        patient_id = _plain_text(values.get("PatientID", b""))
    except Unusual:
        return None
    return Elements(
        values=values,
        patient_id=patient_id,
        transfer_syntax=found.transfer_syntax,
        order="<",
        pixels_at=found.pixels_at,
        pixels_length=found.pixels_length,
    )


def _plain_text(raw: bytes) -> str:
    """One value in ASCII; a character set or a second value is pydicom's to read."""
    text = raw.rstrip(b"\0 ").decode("latin-1")
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        raise Unusual
    return text.strip()
