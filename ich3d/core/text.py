"""Text for messages: plurals, and names from files made safe to print."""


def pluralize(n: int, noun: str) -> str:
    """A count with its noun. `noun` is the singular, and its plural ends in s.

    >>> pluralize(1, "file"), pluralize(2, "file")
    ('1 file', '2 files')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def printable(text: str) -> str:
    r"""`text` on one line, with control and other unprintable characters as escapes.

    File names and DICOM values may hold line breaks or terminal control sequences.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
