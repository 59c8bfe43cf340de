"""The codes used in the DICOM results, each with the source of its meaning.

Published lists give wrong codes for hemorrhages, and the check digit of a SNOMED CT code says
nothing about its meaning. So every code is one of two kinds:

* a code of pydicom's dictionary, which is generated from PS3.16, with exactly the meaning that
  the dictionary gives;
* a private code of the coding scheme 99ICH3D (PS3.3 8.2). The epidural and the subdural space
  have private codes, because pydicom's dictionary has no code for these two sites; nor has it one
  for Grad-CAM.
"""

from dataclasses import dataclass
from typing import Final

from pydicom.sr.coding import Code

SCHEME: Final = "99ICH3D"
"""Coding scheme designator of the private codes; PS3.3 8.2 reserves the prefix 99 for them."""


@dataclass(frozen=True)
class Concept:
    """One coded concept.

    Attributes:
        value: Code Value, at most 16 characters (PS3.3 8.1).
        scheme: Coding Scheme Designator: SCT, DCM, UCUM or `SCHEME`.
        meaning: Code Meaning, at most 64 characters (PS3.3 8.3).
        source: Where value and meaning were read: the version of pydicom and the context group.
    """

    value: str
    scheme: str
    meaning: str
    source: str

    @property
    def code(self) -> Code:
        """The concept as pydicom's and highdicom's `Code`."""
        return Code(self.value, self.scheme, self.meaning)


@dataclass(frozen=True)
class CodedFinding:
    """A label in codes: a finding (such as hemorrhage) and its anatomical site."""

    finding: Concept
    site: Concept


_PRIVATE: Final = "private: pydicom 3.0.2 has no code for it"

HEMORRHAGE: Final = Concept("50960005", "SCT", "Hemorrhage", "pydicom 3.0.2, CID 7151")
INTRACRANIAL_HEMORRHAGE: Final = Concept(
    "1386000", "SCT", "Intracranial hemorrhage (disorder)", "pydicom 3.0.2, no context group"
)
INTRACRANIAL: Final = Concept(
    "128319008", "SCT", "Intracranial structure", "pydicom 3.0.2, CID 7140"
)
BRAIN: Final = Concept("12738006", "SCT", "Brain", "pydicom 3.0.2, CID 7151")
BRAIN_VENTRICLE: Final = Concept("35764002", "SCT", "Brain ventricle", "pydicom 3.0.2, CID 7151")
SUBARACHNOID_SPACE: Final = Concept(
    "33930006", "SCT", "Cranial Subarachnoid Space", "pydicom 3.0.2, CID 7140"
)
EPIDURAL_SPACE: Final = Concept("epidural_space", SCHEME, "Epidural space", _PRIVATE)
SUBDURAL_SPACE: Final = Concept("subdural_space", SCHEME, "Subdural space", _PRIVATE)

GRAD_CAM: Final = Concept("grad_cam", SCHEME, "Grad-CAM", _PRIVATE)
CT_OF_HEAD: Final = Concept(
    "303653007", "SCT", "Computed tomography of head (procedure)", "pydicom 3.0.2, no context group"
)
PROBABILITY: Final = Concept("122157", "DCM", "Probability", "pydicom 3.0.2, no context group")
NO_UNITS: Final = Concept("1", "UCUM", "no units", "pydicom 3.0.2, CID 7181")
MAXIMUM: Final = Concept("56851009", "SCT", "Maximum", "pydicom 3.0.2, CID 7464")
COMMENT: Final = Concept("121106", "DCM", "Comment", "pydicom 3.0.2, CID 12101")
DEVICE: Final = Concept("121007", "DCM", "Device", "pydicom 3.0.2, CID 270")
OF_INTEREST: Final = Concept("113000", "DCM", "Of Interest", "pydicom 3.0.2, CID 7010")

CODED_FINDINGS: Final = {
    "epidural": CodedFinding(HEMORRHAGE, EPIDURAL_SPACE),
    "intraparenchymal": CodedFinding(HEMORRHAGE, BRAIN),
    "intraventricular": CodedFinding(HEMORRHAGE, BRAIN_VENTRICLE),
    "subarachnoid": CodedFinding(HEMORRHAGE, SUBARACHNOID_SPACE),
    "subdural": CodedFinding(HEMORRHAGE, SUBDURAL_SPACE),
    "any": CodedFinding(INTRACRANIAL_HEMORRHAGE, INTRACRANIAL),
}
"""Finding and site of each label, in the order of `core.labels.LABELS`."""

CONCEPTS: Final = (
    HEMORRHAGE, INTRACRANIAL_HEMORRHAGE, INTRACRANIAL, BRAIN, BRAIN_VENTRICLE, SUBARACHNOID_SPACE,
    EPIDURAL_SPACE, SUBDURAL_SPACE, CT_OF_HEAD, PROBABILITY, NO_UNITS, MAXIMUM, COMMENT, DEVICE,
    OF_INTEREST, GRAD_CAM,
)  # fmt: skip
"""All concepts of this module; the tests check each against pydicom's dictionary."""
