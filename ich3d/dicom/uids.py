"""TODO."""

import hashlib


def uid(*names: str | int) -> str:
    """A UUID-derived UID (`2.25.` and a decimal, PS3.5 B.2) that depends on `names` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
