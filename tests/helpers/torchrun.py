"""Running a script in two processes, as `torchrun` does."""

import json
import subprocess
import sys
from pathlib import Path

from ich3d.config.load import as_dict
from ich3d.config.root import Config


def torchrun(script: str, folder: Path, config: Config, *arguments: str, restarts: int = 0) -> None:
    """Run a script in two ranks; its first argument is the configuration as a file."""
    (folder / "script.py").write_text(script)
    (folder / "config.json").write_text(json.dumps(as_dict(config)))  # JSON is YAML
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "--max-restarts", str(restarts), str(folder / "script.py"), str(folder / "config.json"),
    ]  # fmt: skip
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
