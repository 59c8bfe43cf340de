"""A stable name for a patient that does not contain the PatientID."""

import hashlib
import re
from typing import Final

_PSEUDONYM: Final = re.compile("p[0-9a-f]{12}")


def pseudonym(patient_id: str) -> str:
    """The pseudonym of a PatientID; a pseudonym is its own.

    >>> pseudonym(pseudonym("1234")) == pseudonym("1234")
    True
    """
    if _PSEUDONYM.fullmatch(patient_id):
        return patient_id
    return "p" + hashlib.sha256(f"ich3d patient {patient_id}".encode()).hexdigest()[:12]


NOBODY: Final = pseudonym("")
"""The pseudonym of every patient whose files have no PatientID."""
