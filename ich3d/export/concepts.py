"""The codes of DICOM results: one table, each row with where its code was read.

Public sources give wrong codes for hemorrhages, and a check digit proves no meaning. So a code is either
in pydicom's dictionary, which is generated from PS3.16, under this very meaning; or it is our own, of the
private scheme 99ICH3D (PS3.3 8.2). SNOMED CT surely names the epidural and subdural space, but the
dictionary does not, so those two sites are ours.
"""

from dataclasses import dataclass
from typing import Final

from pydicom.sr.coding import Code

SCHEME: Final = "99ICH3D"


@dataclass(frozen=True)
class Concept:
    """A code (at most 16 characters, PS3.3 8.1), its meaning (at most 64), and where both were read."""

    value: str
    scheme: str
    meaning: str
    found_in: str

    @property
    def code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)


@dataclass(frozen=True)
class CodedFinding:
    """How a label is said in codes: a finding at a site."""

    finding: Concept
    site: Concept


_OWN: Final = "private: pydicom 3.0.2 has no code for it"

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
EPIDURAL_SPACE: Final = Concept("epidural_space", SCHEME, "Epidural space", _OWN)
SUBDURAL_SPACE: Final = Concept("subdural_space", SCHEME, "Subdural space", _OWN)

CT_OF_HEAD: Final = Concept(
    "303653007", "SCT", "Computed tomography of head (procedure)", "pydicom 3.0.2, no context group"
)
PROBABILITY: Final = Concept("122157", "DCM", "Probability", "pydicom 3.0.2, no context group")
NO_UNITS: Final = Concept("1", "UCUM", "no units", "pydicom 3.0.2, CID 7181")
MAXIMUM: Final = Concept("56851009", "SCT", "Maximum", "pydicom 3.0.2, CID 7464")
DEVICE: Final = Concept("121007", "DCM", "Device", "pydicom 3.0.2, CID 270")
OF_INTEREST: Final = Concept("113000", "DCM", "Of Interest", "pydicom 3.0.2, CID 7010")

SIGNS: Final = {
    "epidural": CodedFinding(HEMORRHAGE, EPIDURAL_SPACE),
    "intraparenchymal": CodedFinding(HEMORRHAGE, BRAIN),
    "intraventricular": CodedFinding(HEMORRHAGE, BRAIN_VENTRICLE),
    "subarachnoid": CodedFinding(HEMORRHAGE, SUBARACHNOID_SPACE),
    "subdural": CodedFinding(HEMORRHAGE, SUBDURAL_SPACE),
    "any": CodedFinding(INTRACRANIAL_HEMORRHAGE, INTRACRANIAL),
}

CONCEPTS: Final = (
    HEMORRHAGE, INTRACRANIAL_HEMORRHAGE, INTRACRANIAL, BRAIN, BRAIN_VENTRICLE, SUBARACHNOID_SPACE,
    EPIDURAL_SPACE, SUBDURAL_SPACE, CT_OF_HEAD, PROBABILITY, NO_UNITS, MAXIMUM, DEVICE, OF_INTEREST,
)  # fmt: skip
