"""Write the software bill of materials of an installed ich3d, as CycloneDX 1.5 JSON, to stdout.

    python scripts/write_sbom.py > ich3d-0.3.0.cdx.json

Run it with the interpreter of the environment that is described. Listed are ich3d and everything
that it needs, with the versions that are installed there. Equal environments give equal bytes.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "ich3d"


def sbom() -> dict[str, Any]:
    """The bill of materials as data for JSON (CycloneDX 1.5)."""
    installed: dict[str, Distribution] = {}
    needs: dict[str, list[str]] = {}
    pending = [ROOT]
    while pending:
        name = pending.pop()
        if name in needs:
            continue
        installed[name] = distribution(name)
        needs[name] = sorted(set(_requirements(installed[name])))
        pending += needs[name]

    components = {name: _component(package) for name, package in sorted(installed.items())}
    root = {**components.pop(ROOT), "type": "application"}
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": _purl(installed[name]),
                "dependsOn": [_purl(installed[needed]) for needed in needs[name]],
            }
            for name in sorted(needs)
        ],
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": f"urn:uuid:{serial}"}


def _requirements(package: Distribution) -> Iterator[str]:
    """Canonical names of what a package needs here, as far as it is installed; no extras."""
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        yield name


def _component(package: Distribution) -> dict[str, Any]:
    """One package: name, version, licence as far as it states one."""
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": canonicalize_name(package.name),
        "version": package.version,
        "purl": _purl(package),
    }
    if "License-Expression" in package.metadata:
        component["licenses"] = [{"expression": package.metadata["License-Expression"]}]
    return component


def _purl(package: Distribution) -> str:
    """The package URL, such as pkg:pypi/numpy@2.4.6."""
    version = package.version.replace("+", "%2B")
    return f"pkg:pypi/{canonicalize_name(package.name)}@{version}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(sbom(), indent=1, sort_keys=True) + "\n")
