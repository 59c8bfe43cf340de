"""Zips of DICOM files."""

import struct
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
    """Set the flag of encryption of the last member, in the zip's directory and at the member."""
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    content[content.rindex(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(content)


def set_method(path: Path, method: int) -> None:
    """Set the compression method of all members, in the zip's central directory alone."""
    content = bytearray(path.read_bytes())
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:
        content[entry + 10 : entry + 12] = method.to_bytes(2, "little")
        entry = content.find(b"PK\x01\x02", entry + 4)
    path.write_bytes(content)


def share_first_member(path: Path, names: list[str]) -> None:
    """Let members of these names, each as long as that of the first, share its packed bytes."""
    content = path.read_bytes()
    directory, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[directory:end]
    entries = b"".join(entry.replace(names[0].encode(), name.encode()) for name in names)
    counts = (0, 0, len(names), len(names), len(entries), directory, 0)
    path.write_bytes(
        content[:directory] + entries + struct.pack("<4s4H2LH", b"PK\x05\x06", *counts)
    )
