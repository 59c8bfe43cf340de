"""Manifests of model folders that tests change on purpose."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ich3d.core.workspace import read_json
from ich3d.model.manifest import MANIFEST


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to the manifest and give it the right hash.

    The result is a manifest as another version of the package might have written it.
    """
    manifest = read_json(folder / MANIFEST)
    del manifest["manifest_sha256"]
    change(manifest)
    own_sha256 = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**manifest, "manifest_sha256": own_sha256}))
