"""DICOM unique identifiers (UIDs) that are the same on every run and every machine."""

import hashlib


def uid(*names: str | int) -> str:
    """Return a UID that depends on `names` alone: equal names give an equal UID.

    The UID has the form `2.25.<decimal>` of PS3.5 B.2, which needs no registered root; the 128-bit
    number is the beginning of the SHA-256 of the names, joined by a separator that keeps
    `("a", "b")` apart from `("ab",)`.
    """
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
