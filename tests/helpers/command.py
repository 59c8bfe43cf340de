"""What tests of the `ich3d` command share."""

import json
from collections.abc import Callable
from pathlib import Path

from ich3d.config.load import as_dict
from ich3d.config.root import Config

Run = Callable[..., tuple[int, str, str]]
"""Runs a command in this process and returns its exit code, stdout and stderr."""


def sentence(stderr: str) -> str:
    """The one line that a user's mistake prints; there is no traceback."""
    lines = [line for line in stderr.splitlines() if line.startswith("ich3d: ")]
    assert len(lines) == 1
    assert "Traceback" not in stderr
    return lines[0]


def write_config(path: Path, config: Config | dict[str, object]) -> Path:
    """Write a configuration as JSON, which is YAML as well, and return its path."""
    path.write_text(json.dumps(as_dict(config) if isinstance(config, Config) else config))
    return path
