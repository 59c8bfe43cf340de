"""Options that several commands share: each is described in one place, in one way."""

import argparse
from pathlib import Path
from typing import Final

from ich3d.core.hardware import usable_cores

OUT_HELP: Final = "folder to write to, made if missing"

FOLLOW_LINKS_HELP: Final = "also follow symbolic links that lead out of the folder of DICOM files"

MODEL_HELP: Final = "a model folder, such as runs/demo/model"

REPAIR_HELP: Final = (
    "mend labels of which `any` contradicts the subtypes, instead of refusing the table"
)


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add one path of DICOM files."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a folder, a zip or a DICOM file")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out` and `--overwrite`."""
    parser.add_argument("-o", "--out", type=Path, required=True, help=OUT_HELP)
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing outputs that were made from other inputs or settings",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, which may be left out."""
    parser.add_argument(
        "--model",
        type=Path,
        help=f"{MODEL_HELP} (default: the starter model that comes with ich3d)",
    )


def add_labels(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add `--labels` and `--repair-labels`."""
    parser.add_argument(
        "--labels",
        type=Path,
        required=required,
        metavar="CSV",
        help="table of the true labels, with the columns ID,Label where ID is "
        "<SOPInstanceUID>_<label>, or SOPInstanceUID and a column for each label",
    )
    parser.add_argument("--repair-labels", action="store_true", help=REPAIR_HELP)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_lenient(parser: argparse.ArgumentParser) -> None:
    """Add `--lenient`."""
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="leave out slices that cannot be used, instead of rejecting their series; join single "
        "slices that fit one series; accept series whose values do not look like HU",
    )


def add_follow_links(parser: argparse.ArgumentParser) -> None:
    """Add `--follow-links`."""
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help=FOLLOW_LINKS_HELP,
    )


def add_workers(parser: argparse.ArgumentParser, work: str) -> None:
    """Add `--workers`; `work` says what the processes do."""
    parser.add_argument(
        "--workers",
        type=positive,
        default=usable_cores(),
        metavar="N",
        help=f"processes that {work} (default: one for each usable core)",
    )


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add `--ray`."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on the Ray cluster at ADDRESS (HOST:PORT), or `local` for one on this machine; "
        "needs ich3d[ray], and files under the same paths on all machines",
    )


def add_config(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """Add `--config` and `--set`; without a default the config file must be given."""
    default_text = "" if default is None else f" (default: {default})"
    parser.add_argument(
        "--config",
        type=Path,
        required=default is None,
        default=default,
        metavar="FILE",
        help=f"YAML file with the configuration; `ich3d config` lists its keys{default_text}",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one value of the configuration, such as slices.epochs=20; may be repeated",
    )


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add options that stand for a `--set` of the section `source`; call it after `add_config`."""
    parser.add_argument(
        "--repair-labels",
        dest="overrides",
        action="append_const",
        const="source.repair_labels=true",
        help=REPAIR_HELP,
    )
    parser.add_argument(
        "--follow-links",
        dest="overrides",
        action="append_const",
        const="source.follow_links=true",
        help=FOLLOW_LINKS_HELP,
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def threshold(text: str) -> float:
    """A probability above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text!r}")
    return value


def shard(text: str) -> tuple[int, int]:
    """`i/n` as two numbers."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise argparse.ArgumentTypeError(f"must have the form 2/8, got {text!r}")
    return int(number), int(count)
