"""Zips of DICOM files."""

import zipfile
from pathlib import Path


def pack_zip(folder: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Move the files of `folder` into a zip at `path`, as members below `inner/`."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("inner")
        for file in sorted(folder.iterdir()):
            archive.write(file, f"inner/{file.name}")
            file.unlink()
    folder.rmdir()


def damage_member(path: Path, member: str) -> None:
    """Change one byte of an uncompressed member, near its end, so that its checksum is wrong."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    content[info.header_offset + info.file_size] ^= 0xFF
    path.write_bytes(content)


def mark_last_member_encrypted(path: Path) -> None:
    """Set the flag of encryption of the last member in the zip's central directory."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 8] |= 1
    path.write_bytes(content)
