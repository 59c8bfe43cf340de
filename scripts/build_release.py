"""Build the source distribution and the wheel of the folder in which this is started.

    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) python scripts/build_release.py dist

Equal sources and dates give equal bytes, in any folder. Needs the packages of `[build-system]` in
pyproject.toml.
"""

import gzip
import importlib
import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path


def main(folder: Path) -> None:
    """Write both to `folder`, with the time SOURCE_DATE_EPOCH in place of that of the build."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    os.umask(0o022)  # both keep the permissions of files
    backend = importlib.import_module("setuptools.build_meta")
    normalize(folder / backend.build_sdist(str(folder)), epoch)
    backend.build_wheel(str(folder))


def normalize(sdist: Path, epoch: int) -> None:
    """Write the archive anew: sorted, of no user, and with `epoch` as the time of everything."""
    content = BytesIO()
    with (
        tarfile.open(sdist) as built,
        tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in sorted(built.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, epoch
            entry.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.addfile(entry, built.extractfile(member) if member.isfile() else None)
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed:
        packed.write(content.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
