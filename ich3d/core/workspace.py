"""The run folder: the paths of all its files, and atomic writing of files and folders.

<workspace>/
  inspect.csv          the series of the source and their issues
  folds.csv            patient group and fold of each patient
  headers.sqlite       the headers of the source's files
  rejected.csv         series and files that cannot be used
  unmatched.csv        labels without a slice, slices without a label
  conflicting_labels.csv   slices with identical pixels and different labels
  fingerprint.json     what the data are like, for its page fingerprint.html
  contact_sheets/      the prepared series as small images, a hundred a page
  store/               the prepared store
  embeddings/          embeddings by a frozen network, shared by all folds
  encoder/fold<k>/     trained encoder of fold k; likewise context/ and stack/
  oof/<stage>.csv      out-of-fold scores of a stage
  model/               the model folder, which `ich3d predict` reads
  run.json             configuration, versions, metric of each stage
  report.html          the run's report
  ablation/            what an ablation trained, and its rows' scores
  lookalikes.csv       scores on the look-alikes of phantoms
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from ich3d.core.errors import DataError
from ich3d.core.path_arguments import as_path
from ich3d.core.temporary import FOLDER, remove_tree, temporary_path

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DAMAGED: Final = "put back an undamaged copy, or remove it and run the command again that wrote it"
"""What to do about a damaged file that a command can write again."""


@dataclass(frozen=True)
class Workspace:
    """Paths below the folder `root` of one run. Nothing is created by asking for a path.

    `root` may be given as text.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", as_path("root", self.root))

    def source(self, kind: str) -> Path:
        """Folder of DICOM files that the run wrote itself: `phantom` or an imported data set."""
        return self.root / "source" / kind

    @property
    def inspect(self) -> Path:
        """Table of the source's series and their issues."""
        return self.root / "inspect.csv"

    @property
    def folds(self) -> Path:
        """Table of patients, their groups and folds."""
        return self.root / "folds.csv"

    @property
    def rejected(self) -> Path:
        """Table of series and files that cannot be used."""
        return self.root / "rejected.csv"

    @property
    def conflicts(self) -> Path:
        """Table of slices with identical pixels and different labels."""
        return self.root / "conflicting_labels.csv"

    @property
    def fingerprint(self) -> Path:
        """JSON file that says what the data are like."""
        return self.root / "fingerprint.json"

    @property
    def fingerprint_page(self) -> Path:
        """The page of the fingerprint."""
        return self.root / "fingerprint.html"

    @property
    def contact_sheets(self) -> Path:
        """Folder of pages with a small image of each series."""
        return self.root / "contact_sheets"

    @property
    def scan(self) -> Path:
        """Database of the headers of the source's files."""
        return self.root / "headers.sqlite"

    def shard_scan(self, shard: str) -> Path:
        """The same of the shard `i/n`, which other machines prepare beside others."""
        return self.root / f"headers.{shard.replace('/', '_of_')}.sqlite"

    @property
    def unmatched(self) -> Path:
        """Table of labels without a slice and slices without a label."""
        return self.root / "unmatched.csv"

    @property
    def store(self) -> Path:
        """Folder of the prepared store."""
        return self.root / "store"

    @property
    def embeddings(self) -> Path:
        """Folder of the embeddings by frozen networks, which all folds share."""
        return self.root / "embeddings"

    def stage(self, name: str, fold: int) -> Path:
        """Folder of the model that stage `name` trained for `fold`."""
        return self.root / name / f"fold{fold}"

    def variant(self, name: str, inputs: str, fold: int) -> Path:
        """Folder of a model that an ablation trained; `inputs` is the hash of its inputs."""
        return self.root / "ablation" / f"{name}-{inputs[:12]}" / f"fold{fold}"

    def oof(self, stage: str) -> Path:
        """Table of the out-of-fold scores of `stage`."""
        return self.root / "oof" / f"{stage}.csv"

    @property
    def model(self) -> Path:
        """The model folder, which `ich3d predict` reads."""
        return self.root / "model"

    @property
    def run(self) -> Path:
        """JSON file with configuration, versions and metrics of a finished run."""
        return self.root / "run.json"

    @property
    def scores(self) -> Path:
        """Folder of the out-of-fold scores of an ablation, one file a row."""
        return self.root / "ablation" / "scores"

    @property
    def lookalikes(self) -> Path:
        """Table of an ablation's scores on the look-alikes of phantoms."""
        return self.root / "lookalikes.csv"

    @property
    def report(self) -> Path:
        """The run's report."""
        return self.root / "report.html"


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


_UMASK: Final = _umask()  # once: while it is read, files of other threads would be private


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file or folder atomically: yields a temporary path that replaces `path` at the end.

    If the block raises, the temporary path is removed and `path` stays as it was. Each writer has a
    temporary path of its own: where two write the same file, the last one that ends has written it.
    Missing parent folders are created. A file can be read by whom the process's umask allows, also
    where the library that wrote it made it private.

    Raises:
        OSError: the file cannot be written; it names `path`, whichever library wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_path(path) as partial:
            yield partial
            if partial.is_dir():
                remove_tree(path)  # os.replace does not overwrite a folder that holds files
            else:
                partial.chmod(0o666 & ~_UMASK)
                _sync(partial)
            os.replace(partial, path)
    except OSError as error:
        if error.errno and _is_nameless_or_below(error, path.parent / FOLDER):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


def _sync(path: Path) -> None:
    """Wait until a file is on the disk: else a crash of the system could leave it empty under its
    final name.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_nameless_or_below(error: OSError, folder: Path) -> bool:
    """Whether an error names no file, or a temporary one in `folder` that no user knows."""
    return error.filename is None or str(error.filename).startswith(str(folder))


def _system_error(error: Exception) -> int | None:
    """The system's error number in the message of a library that writes files by itself, such as
    safetensors; None where there is none.
    """
    found = re.search(r"\bos error (\d+)\b", str(error))
    return int(found.group(1)) if found else None


def write_json(path: Path, tree: Any) -> None:
    """Write a tree of plain data as JSON, atomically, with sorted keys."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The tree in a JSON file. DataError where the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except ValueError:  # a UnicodeDecodeError is one too
        raise DataError(f"{path} is not valid JSON: {DAMAGED}") from None


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """The arrays of a safetensors file by name. DataError where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, np.ndarray] = load_file(path)
        return arrays
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (SafetensorError, ValueError):
        raise DataError(f"{path} is damaged: {DAMAGED}") from None


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def named_file_sha256(name: str | None) -> str | None:
    """The hash of the file that a configuration names; the name itself where that is no file."""
    return name if name is None or not Path(name).is_file() else file_sha256(Path(name))


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV without its index, atomically."""
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file,
    ):
        write_table(table, file)


def write_table(table: "pd.DataFrame", file: TextIO) -> None:
    """Write a table as CSV without its index, in the form of all tables."""
    table.to_csv(file, index=False, lineterminator="\n")


def read_csv(path: Path, text: tuple[str, ...] = ()) -> "pd.DataFrame":
    """The table in a CSV file. DataError where the file is missing or is no table.

    Columns in `text` are read as strings, and their empty cells as "": a UID such as `1.20` or an
    ID such as `007` would otherwise become a number. In other columns an empty cell is NaN.
    """
    import pandas as pd  # takes a while to load, and most commands check their paths before

    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""]
        )
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table: {str(error).strip()}") from None
    return table.fillna(dict.fromkeys(text, ""))
