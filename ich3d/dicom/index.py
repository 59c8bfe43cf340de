"""Find all CT series below a path.

Every file is accounted for: it belongs to a series, is left out because it is no part of a CT
volume, or is rejected with the reason.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.path_arguments import as_path, as_paths
from ich3d.core.path_kinds import no_such
from ich3d.core.progress import Progress, quiet
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, Issue, LeftOut, Rejected, Series
from ich3d.dicom.assembly.grouping import Policy, group_files
from ich3d.dicom.files import (
    FolderListing,
    RefusedMembers,
    ZipListing,
    drop_repeated_files,
    list_files,
    list_members,
)
from ich3d.dicom.headers.read import InvalidSlice, NonCTFile, PlainContent, ZipArchive, read_file

STRICT: Final = Policy()
"""The default policy: one invalid slice rejects its series."""

MAX_NAMES: Final = 5
"""How many links a message names; `Rejected.paths` holds all."""


@dataclass(frozen=True)
class Index:
    """All series below `root`, and the files that are in none.

    Attributes:
        root: the folder to which all names are relative, such as `paths` of the rejections.
        n_files: the number of files; each of them is in one of the three tuples. A sub-folder that
            cannot be listed, and a link that is not followed, count as one each.
        series: one ordered `Series` for each volume. `index` sorts them by `volume_id`; a caller
            may replace that order.
        left_out: files that are no part of a CT volume, sorted by path.
        rejected: files and series that cannot be used, sorted by subject and path.
    """

    root: Path
    n_files: int
    series: tuple[Series, ...]
    left_out: tuple[LeftOut, ...]
    rejected: tuple[Rejected, ...]

    def all_rejected(self, later: Iterable[Rejected]) -> tuple[Rejected, ...]:
        """Rejections of the index and `later`, without repetition.

        Args:
            later: what was rejected after the index, such as series that cannot be decoded. A
                SeriesInstanceUID may be in it once for each of its volumes.

        Returns:
            Files and whole SeriesInstanceUIDs, sorted by subject and path; then single volumes, in
            the order of `later`.
        """
        volume_ids = {series.volume_id for series in self.series}
        unique = dict.fromkeys(later)
        volumes = [rejected for rejected in unique if rejected.subject in volume_ids]
        others = [rejected for rejected in unique if rejected.subject not in volume_ids]
        return (*sorted([*self.rejected, *others], key=_subject_and_paths), *volumes)


def index(path: Path | str, progress: Progress = quiet, policy: Policy = STRICT) -> Index:
    """Find all CT series in `path`: a folder with its sub-folders, a zip, or a single file.

    Files are recognized by their content; names and extensions do not matter. Headers are read,
    and pixels only where two slices at one position have to be compared.

    Args:
        path: where to search.
        progress: shows how many files have been read.
        policy: how strictly files are judged.

    Raises:
        DataError: where `path` is no path, does not exist or is a folder that cannot be listed.

    Examples:
        >>> study = index("study")
        >>> len(study.series), len(study.rejected)
        (1, 0)
    """
    return index_all([as_path("path", path)], progress, policy)


def index_all(
    paths: Sequence[Path | str], progress: Progress = quiet, policy: Policy = STRICT
) -> Index:
    """Find all CT series in several files and folders, taken together.

    A file that is reached by several of the paths counts once, and a series may be spread over
    them. The root of the index is the deepest folder that holds all paths. Arguments and errors
    are those of `index`.
    """
    paths = as_paths("paths", paths)
    for path in paths:
        if not path.exists():
            raise no_such("file or folder", path)

    root = common_folder(paths)
    listing = list_all(paths, policy.follow_links)
    files = [FileRef(path, path.relative_to(root).as_posix()) for path in listing.files]

    contents, refused = _read_all(files, progress)
    return index_contents(root, contents, policy, [*unread_paths(listing, root), *refused])


def index_contents(
    root: Path,
    contents: Sequence[PlainContent],
    policy: Policy,
    unread: Sequence[Rejected] = (),
) -> Index:
    """Group files that have been read into series.

    Args:
        root: the folder to which all names are relative.
        contents: what each file holds; zips are replaced by their members.
        policy: how strictly files are judged.
        unread: files and folders that were not read.
    """
    non_ct_files = [content for content in contents if isinstance(content, NonCTFile)]
    ct_files = [content for content in contents if not isinstance(content, NonCTFile)]

    grouping = group_files(ct_files, policy)
    all_series = _warn_of_not_hu(grouping.series, non_ct_files)
    left_out = [*map(_left_out, non_ct_files), *grouping.left_out]
    return Index(
        root=root,
        n_files=len(contents) + sum(len(rejected.paths) for rejected in unread),
        series=tuple(sorted(all_series, key=lambda series: series.volume_id)),
        left_out=tuple(sorted(left_out, key=lambda files: files.paths)),
        rejected=tuple(sorted([*unread, *grouping.rejected], key=_subject_and_paths)),
    )


def common_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that holds all paths; a folder holds itself."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    return Path(os.path.commonpath(folders))


def list_all(paths: Sequence[Path], follow_links: bool) -> FolderListing:
    """The files among `paths` and below the folders among them, each real file once."""
    files: list[Path] = []
    outside_links: list[Path] = []
    unlistable: list[tuple[Path, str]] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        listing = list_files(path, paths, follow_links)
        files += listing.files
        outside_links += listing.outside_links
        unlistable += listing.unlistable
    return FolderListing(
        tuple(drop_repeated_files(files)),
        tuple(dict.fromkeys(outside_links)),
        tuple(dict.fromkeys(unlistable)),
    )


def unread_paths(listing: FolderListing, root: Path) -> list[Rejected]:
    """The sub-folders and links of a listing that were not followed, as rejected."""
    unread = []
    for folder, reason in listing.unlistable:
        name = folder.relative_to(root).as_posix()
        problem = f"the folder cannot be listed ({reason}): check who may read it"
        unread.append(Rejected(name, IssueCode.UNREADABLE, f"{name}: {problem}", (name,)))

    names = tuple(link.relative_to(root).as_posix() for link in listing.outside_links)
    if names:
        shown = ", ".join(names[:MAX_NAMES])
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        links = "a link that leads" if len(names) == 1 else f"{len(names)} links that lead"
        problem = f"{links} out of the folder, not followed without --follow-links"
        detail = f"{shown}{more}: {problem}"
        unread.append(Rejected(names[0], IssueCode.OUTSIDE_LINK, detail, names))
    return unread


def _read_all(
    files: Sequence[FileRef], progress: Progress
) -> tuple[list[PlainContent], list[Rejected]]:
    """The contents of all files, and members of zips that are not opened.

    A zip is replaced by its members, which are read after all other files.
    """
    contents: list[PlainContent] = []
    refused: list[Rejected] = []
    zip_members: list[FileRef] = []

    for file in progress(files, "headers", total=len(files)):
        match read_file(file):
            case ZipArchive() as archive:
                listing = list_zip(archive.file)
                if isinstance(listing, ZipListing):
                    zip_members += listing.members
                    refused += [reject_members(archive.file, those) for those in listing.refused]
                else:
                    contents.append(listing)
            case content:
                contents.append(content)

    # A zip within a zip is no archive to `read_file`, so this ends after one level.
    if zip_members:
        contents += _read_all(zip_members, progress)[0]
    return contents, refused


def list_zip(file: FileRef) -> ZipListing | NonCTFile | InvalidSlice:
    """The members of a zip, or why none of them can be read."""
    try:
        listing = list_members(file)
    except OSError as error:
        return InvalidSlice(file, IssueCode.UNREADABLE, error.strerror or "cannot be read", None)
    if not (listing.members or listing.refused):
        return NonCTFile(file, IssueCode.NOT_DICOM, "an empty zip")
    return listing


def reject_members(archive: FileRef, those: RefusedMembers) -> Rejected:
    """Members of a zip that are not opened, as rejected."""
    paths = tuple(member.name for member in those.members)
    return Rejected(archive.name, those.code, f"{archive.name}: {those.problem}", paths)


def _subject_and_paths(rejected: Rejected) -> tuple[str, tuple[str, ...]]:
    return rejected.subject, rejected.paths


def _warn_of_not_hu(
    all_series: Iterable[Series], non_ct_files: Iterable[NonCTFile]
) -> list[Series]:
    """Add an issue to each series of which other files were left out because they are not in HU."""
    not_hu: dict[str, list[NonCTFile]] = defaultdict(list)
    for file in non_ct_files:
        if file.code is IssueCode.NOT_HU and file.series_uid:
            not_hu[file.series_uid].append(file)

    warned = []
    for series in all_series:
        if others := not_hu.get(series.series_uid):
            n_files = pluralize(len(others), "file")
            detail = f"{n_files} of the series left out: {_left_out(others[0]).detail}"
            series = replace(series, issues=(*series.issues, Issue(IssueCode.NOT_HU, detail)))
        warned.append(series)
    return warned


def _left_out(non_ct: NonCTFile) -> LeftOut:
    name = non_ct.file.name
    return LeftOut((name,), non_ct.code, f"{name}: {non_ct.problem}")
