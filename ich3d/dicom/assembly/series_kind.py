"""What the header of a series says about its images: contrast agent, derived images, sharp kernel.

Descriptions are free text in any language, so what they say is a hint. No message quotes them,
because they may name a patient.
"""

import re
from functools import cache
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, SliceHeader
from ich3d.dicom.headers.elements import TAGS, tag_text


def _words(*patterns: str) -> re.Pattern[str]:
    """A pattern for whole words, which end at anything that is no letter."""
    return re.compile(f"(?<![a-z])(?:{'|'.join(patterns)})(?![a-z])", re.IGNORECASE)


_ANGIOGRAPHY: Final = _words(
    "cta", "ctv", "ctp", "vpct", "4d", r"\w*angio\w*", r"perfu\w*", r"venogra\w*", "cbf", "cbv",
    "mtt", "tmax", r"[ck]aroti\w*", "willis", r"dyn\w*eva\w*",
)  # fmt: skip
_CONTRAST: Final = _words(
    r"contrast\w*", "ce", "km", "art", r"arteri\w+", r"venous\w*", r"enhanc\w*", r"c\s?\+",
    r"\+\s?c", "inj", r"inject\w*", r"delay\w*", r"w(?:ith)?\s+iv", r"w(?:ith)?\s*$",
)  # fmt: skip
_BOTH: Final = _words(
    r"w(?:ith)?\s*(?:/|and|&|\+|,)?\s*w(?:/?o|ithout)",
    r"w(?:/?o|ithout)\s*(?:/|and|&|\+|,)\s*w(?:ith)?",
)
_NO_CONTRAST: Final = _words(
    "n", "n/?a", "nil", "no", "none", r"non(?![\s_-]*ionic)\w*", "without", "w/?o",
    r"unenh\w*", r"nati[vf]\w*", "plain", "ncct", "nect", "ohne", "sans", "sin",
    r"pre[\s_-]?contrast\w*",
)  # fmt: skip
_DERIVED: Final = _words(
    "mip", "minip", r"m(?:ax|in)_ip", "maximum", "minimum", "mpr", "cpr", "vrt", "ssd",
    r"reformat\w*", r"projection\w*", r"volren\w*", r"(?:volume|surface)_render\w*", r"curved\w*",
    "multiplanar",
)  # fmt: skip
_SHARP_WORDS: Final = _words(
    r"bone\w*", r"knochen\w*", "os", r"edge\w*", r"lung\w*", r"sharp\w*", r"ultra\w*", r"petrous\w*"
)
_SHARP_PHILIPS: Final = frozenset({"D", "E", "F", "L", "YC", "YD", "YE"})
_SIEMENS_KERNEL: Final = re.compile(r"[A-Z][a-z]?(\d\d)")
_SIEMENS_SHARP_FROM: Final = 50
_CANON_KERNEL: Final = re.compile(r"FC(\d)\d")
_CANON_SHARP: Final = frozenset("358")
"""The tens of Canon's kernels for bone and lung."""


def contrast_issue(header: SliceHeader) -> Issue | None:
    """The warning that vessels may be enhanced by contrast agent, since they then look like blood.

    ContrastBolusAgent decides (PS3.3 C.7.6.4) or what stands for it, then ImageType, then the first
    of SeriesDescription, ProtocolName and StudyDescription that is not empty.
    """
    keyword = _contrast_keyword(
        header.contrast_agent,
        header.image_type,
        header.series_description,
        header.protocol_name,
        header.study_description,
    )
    if not keyword:
        return None
    detail = f"{header.name}: {tag_text(keyword)} tells of contrast agent, which looks like blood"
    return Issue(IssueCode.CONTRAST, detail)


def derived_issue(header: SliceHeader) -> Issue | None:
    """The warning that images are no slices of a scan but projections or reformats of them."""
    found = _derived_word(header.image_type, header.frame_type, header.series_description)
    if found is None:
        return None
    keyword, word = found
    what = f"{tag_text(keyword)} names a projection or reformat ({word})"
    return Issue(IssueCode.DERIVED, f"{header.name}: {what}")


def has_sharp_kernel(header: SliceHeader) -> bool:
    """Whether the kernel is one for bone or lung, by ConvolutionKernel or SeriesDescription."""
    kernel = header.kernel.split("\\")[0].strip()
    if canon := _CANON_KERNEL.match(kernel):
        return canon[1] in _CANON_SHARP
    if siemens := _SIEMENS_KERNEL.match(kernel):
        return int(siemens[1]) >= _SIEMENS_SHARP_FROM
    if kernel.upper() in _SHARP_PHILIPS:
        return True
    return bool(_SHARP_WORDS.search(kernel) or _SHARP_WORDS.search(header.series_description))


@cache
def _contrast_keyword(agent: str, image_type: str, series: str, protocol: str, study: str) -> str:
    """Keyword of the attribute that tells of contrast agent; empty where none does."""
    if _letters(agent) and not _NO_CONTRAST.search(agent):
        keyword = agent.removeprefix("in ")
        return keyword if keyword in TAGS else "ContrastBolusAgent"
    if _ANGIOGRAPHY.search(image_type):
        return "ImageType"

    descriptions = {
        "SeriesDescription": series, "ProtocolName": protocol, "StudyDescription": study,
    }  # fmt: skip
    keyword, text = next(
        ((keyword, text) for keyword, text in descriptions.items() if text), ("", "")
    )
    if _ANGIOGRAPHY.search(text):
        return keyword
    says_none = _NO_CONTRAST.search(text) and not _BOTH.search(text)
    return keyword if _CONTRAST.search(text) and not says_none else ""


@cache
def _derived_word(image_type: str, frame_type: str, series: str) -> tuple[str, str] | None:
    """The attribute that names a projection or reformat, and the word; None where none does."""
    texts = {"ImageType": image_type, "FrameType": frame_type, "SeriesDescription": series}
    for keyword, text in texts.items():
        if found := _DERIVED.search(text):
            return keyword, found[0].upper()
    return None


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))
