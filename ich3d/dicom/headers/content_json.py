"""What one file holds, as text: a scan of headers keeps it on disk.

Fields that have their default are left out, so that a slice takes about 700 bytes. The file itself
is not in the text: its name and its place are columns of their own.
"""

import json
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Final

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader
from ich3d.dicom.headers.read import InvalidSlice, NonCTFile, PlainContent

_KINDS: Final[dict[str, type[Any]]] = {
    "slice": SliceHeader,
    "invalid": InvalidSlice,
    "not_ct": NonCTFile,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def content_to_json(content: PlainContent) -> str:
    """The content of a file as JSON."""
    if isinstance(content, tuple):
        return json.dumps([_entry(item) for item in content], separators=(",", ":"))
    return json.dumps(_entry(content), separators=(",", ":"))


def content_from_json(text: str, file: FileRef) -> PlainContent:
    """The content of `file` that `content_to_json` gave."""
    tree = json.loads(text)
    if isinstance(tree, list):
        return tuple(_item(entry, file) for entry in tree)
    content: PlainContent = _item(tree, file)
    return content


def _entry(item: SliceHeader | InvalidSlice | NonCTFile) -> dict[str, Any]:
    """The fields of one slice or file that have not their default, and its kind."""
    defaults = _defaults(_NAMES[type(item)])
    values = {
        name: value for name, value in vars(item).items() if value != defaults.get(name, MISSING)
    }
    del values["file"]
    return {"kind": _NAMES[type(item)], **values}


def _item(entry: dict[str, Any], file: FileRef) -> Any:
    """The slice or file of an entry."""
    kind = _KINDS[entry.pop("kind")]
    if "code" in entry:
        entry["code"] = IssueCode(entry["code"])
    lists = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    return kind(file=file, **{**entry, **lists})


@cache
def _defaults(kind: str) -> dict[str, Any]:
    of_class = fields(_KINDS[kind])
    return {field.name: field.default for field in of_class if field.default is not MISSING}
