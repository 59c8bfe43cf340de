"""A program in a real pseudo-terminal, and keys that are typed into it."""

import os
import pty
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from select import select
from typing import Final

PATIENCE_SECONDS: Final = 60
"""How long a program may say nothing; a test that waits so long fails."""

SIZE: Final = (24, 120)
"""Rows and columns; without them progress bars have no room."""


class Terminal:
    """A program whose input and output are a pseudo-terminal."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self._screen, inner = pty.openpty()
        termios.tcsetwinsize(inner, SIZE)
        self._program = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", **(env or {})},
            start_new_session=True,
        )
        os.close(inner)
        self._unread = ""

    def type(self, keys: str) -> None:
        """Type some keys; a tab is `\\t`, the Enter key `\\r`."""
        os.write(self._screen, keys.encode())

    def read_until(self, text: str) -> str:
        """What is shown next, up to and including `text`."""
        while text not in self._unread:
            new = self._read()
            assert new, f"{text!r} was not shown, but {self._unread!r}"
            self._unread += new
        shown, _, self._unread = self._unread.partition(text)
        return shown + text

    def finish(self) -> tuple[int, str]:
        """The exit code of the program, and what it shows until it ends."""
        while new := self._read():
            self._unread += new
        os.close(self._screen)
        return self._program.wait(PATIENCE_SECONDS), self._unread

    def _read(self) -> str:
        """What is shown next; empty once the program has closed its terminal."""
        if not select([self._screen], [], [], PATIENCE_SECONDS)[0]:
            self._program.kill()
            raise TimeoutError(f"nothing but {self._unread!r} in {PATIENCE_SECONDS} seconds")
        try:
            return os.read(self._screen, 4096).decode(errors="replace")
        except OSError:  # so does Linux tell that the other end is closed
            return ""
