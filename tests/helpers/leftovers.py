"""What a writer leaves that is killed while it writes."""

import subprocess
import sys
from pathlib import Path

from ich3d.core.temporary import FOLDER

KILLED = """
import os, signal, sys
from pathlib import Path
from ich3d.core.workspace import replacing
with replacing(Path(sys.argv[1]) / "result") as partial:
    partial.mkdir()
    (partial / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_writer(parent: Path) -> Path:
    """Kill a process while it writes a folder in `parent`; returns the place that it left."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(parent)], check=False)
    assert done.returncode < 0
    (place,) = (parent / FOLDER).iterdir()
    assert (place / "result" / "half").exists()
    return place
