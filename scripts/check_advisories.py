"""Compare pinned and permitted versions with the known advisories of `advisories.json`, offline.

    python scripts/check_advisories.py [--constraints FILE] [--project FILE] [--advisories FILE]

Exit code 1 where a pin of constraints.txt, or the lowest version that pyproject.toml permits, lies
in the affected range of an advisory that is not accepted with a reason. A package without an entry
was not checked, which does not make it safe: such packages are counted and named.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version


@dataclass(frozen=True)
class Advisory:
    """A known hole in some versions of a package.

    Attributes:
        id: its public identifier; `aliases` are those of other databases.
        package: canonical name on PyPI.
        affected: the affected versions as a specifier (PEP 440).
        title: what is wrong, in a few words.
        read_at: the page that the range was read from.
        read_on: the day on which it was read, as YYYY-MM-DD.
        accepted: why an affected version is used nevertheless; empty where it must not be.
    """

    id: str
    package: str
    affected: SpecifierSet
    title: str
    read_at: str
    read_on: date
    aliases: tuple[str, ...] = ()
    accepted: str = ""


@dataclass
class Findings:
    """What a check found: sentences by severity, and the packages that no advisory is known of."""

    affected: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def read_advisories(path: Path) -> list[Advisory]:
    """The entries of a list of advisories. KeyError or ValueError where one is incomplete."""
    advisories = []
    for entry in json.loads(path.read_text())["entries"]:
        if not entry["id"] or not entry["read_at"].startswith("https://"):
            raise ValueError(f"{path}: an advisory needs an id and the page it was read from")
        advisories.append(
            Advisory(
                entry["id"],
                canonicalize_name(entry["package"]),
                SpecifierSet(entry["affected"], prereleases=True),
                entry["title"],
                entry["read_at"],
                date.fromisoformat(entry["read_on"]),
                tuple(entry["aliases"]),
                entry.get("accepted", ""),
            )
        )
    return advisories


def read_pins(path: Path) -> dict[str, Version]:
    """The versions that a constraints file pins, by canonical name."""
    pins: dict[str, Version] = {}
    for line in path.read_text().splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            pins[canonicalize_name(name)] = Version(version)
    return pins


def read_floors(path: Path) -> dict[str, Version]:
    """The lowest version that pyproject.toml permits of each package, extras included."""
    project = tomllib.loads(path.read_text())["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    floors: dict[str, Version] = {}
    for requirement in map(Requirement, texts):
        for specifier in requirement.specifier:
            if specifier.operator in (">=", "=="):
                floors[canonicalize_name(requirement.name)] = Version(specifier.version)
    return floors


def check(
    advisories: Sequence[Advisory], pins: Mapping[str, Version], floors: Mapping[str, Version]
) -> Findings:
    """Compare versions with advisories; see the module."""
    findings = Findings()
    for what, versions in (("pins", pins), ("permits", floors)):
        for advisory, version in _affected(advisories, versions):
            names = ", ".join((advisory.id, *advisory.aliases))
            sentence = (
                f"{what} {advisory.package} {version}: {advisory.title} ({names}; affected are "
                f"{advisory.affected}, read at {advisory.read_at} on {advisory.read_on})"
            )
            if advisory.accepted:
                findings.accepted.append(f"{sentence}; accepted: {advisory.accepted}")
            else:
                findings.affected.append(sentence)
    known = {advisory.package for advisory in advisories}
    findings.unchecked = sorted({*pins, *floors} - known)
    return findings


def _affected(
    advisories: Sequence[Advisory], versions: Mapping[str, Version]
) -> Iterator[tuple[Advisory, Version]]:
    for advisory in advisories:
        version = versions.get(advisory.package)
        if version is not None and version in advisory.affected:
            yield advisory, version


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found, and return the exit code."""
    root = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=re.sub(r"\n\n.*", "", __doc__, flags=re.DOTALL))
    parser.add_argument("--constraints", type=Path, default=root / "constraints.txt")
    parser.add_argument("--project", type=Path, default=root / "pyproject.toml")
    parser.add_argument("--advisories", type=Path, default=root / "advisories.json")
    arguments = parser.parse_args(argv)

    advisories = read_advisories(arguments.advisories)
    pins, floors = read_pins(arguments.constraints), read_floors(arguments.project)
    findings = check(advisories, pins, floors)

    write = sys.stdout.write
    for sentence in findings.affected:
        write(f"AFFECTED: {sentence}\n")
    for sentence in findings.accepted:
        write(f"accepted: {sentence}\n")
    names = ", ".join(findings.unchecked)
    write(f"not checked, no advisory is on the list ({len(findings.unchecked)}): {names}\n")
    n_checked = len({*pins, *floors}) - len(findings.unchecked)
    write(f"{n_checked} packages checked against {len(advisories)} advisories\n")
    return 1 if findings.affected else 0


if __name__ == "__main__":
    sys.exit(main())
