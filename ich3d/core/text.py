"""Numbers and foreign text as people read them."""


def pluralize(n: int, noun: str) -> str:
    """`1 file`, `2 files`; `noun` is the singular."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def printable(text: str) -> str:
    """`text` in one line: what a terminal would obey or could not show stands as its escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
