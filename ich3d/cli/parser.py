"""The `ich3d` command: one verb a task, each a thin door to a library function.

Exit codes: 0 finished; 2 a wrong option, path, config or model; 3 finished, but something was rejected
or no volume was found; 130 interrupted; 1 anything else.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ich3d
from ich3d.cli import commands
from ich3d.cli.commands import FAILED, INTERRUPTED, USAGE
from ich3d.cli.terminal import escape_unencodable, log_to_stderr
from ich3d.core.errors import UserError
from ich3d.core.text import printable

Verb = Callable[[argparse.Namespace], int]
DEMO_CONFIG = Path("configs/demo.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code. A user's mistake is one sentence on stderr."""
    arguments = build_parser().parse_args(argv)
    log_to_stderr(arguments.verbose)
    escape_unencodable()
    try:
        code = int(arguments.verb(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read along, `head` perhaps, has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # for the interpreter's own last flush
        return FAILED
    except UserError as error:
        print(printable(f"ich3d: {error}"), file=sys.stderr)
        return USAGE
    except OSError as error:
        told = f"ich3d: {error.filename or 'input or output'}: {error.strerror or error}"
        print(printable(told), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("ich3d: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """Every verb with its arguments and an example."""
    parser = argparse.ArgumentParser(
        prog="ich3d",
        description="Hemorrhage labels for every slice of a head CT, from the whole study.",
    )
    parser.add_argument("--version", action="version", version=f"ich3d {ich3d.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Verb, does: str, example: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=does, description=does, epilog=f"example: ich3d {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.add_argument("-v", "--verbose", action="count", default=0, help="tell details")
        sub.set_defaults(verb=verb)
        return sub

    one = add(
        "phantom",
        commands.phantom,
        "write synthetic head CT studies as DICOM",
        "phantom -o phantoms --studies 20",
    )
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    one.add_argument("--studies", type=int, default=20, help="how many (default 20)")
    one.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")

    one = add(
        "import",
        commands.import_data,
        "turn a public data set into DICOM",
        "import ct-ich $ICH3D_CT_ICH imported",
    )
    one.add_argument("dataset", choices=["ct-ich"], help="whose layout SRC has")
    one.add_argument("src", type=Path, help="the data set's folder")
    one.add_argument("out", type=Path, help="folder to write to")

    one = add(
        "inspect",
        commands.inspect,
        "show the series below a path, and what is wrong",
        "inspect study/ --json",
    )
    one.add_argument("path", type=Path, help="a folder, a zip or a file")
    one.add_argument("--json", action="store_true", help="JSON instead of a table")
    one.add_argument("--identifiers", action="store_true", help="with --json: tell PatientID")
    one.add_argument(
        "--lenient", action="store_true", help="leave flawed slices out, not their series"
    )
    one.add_argument("--headers-only", action="store_true", help="do not read pixels")

    one = add(
        "convert",
        commands.convert,
        "write each series below a path as NIfTI, in HU",
        "convert study/ -o nifti",
    )
    one.add_argument("path", type=Path, help="a folder, a zip or a file")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    one.add_argument("--series", metavar="UID", help="only this series, or volume")
    one.add_argument(
        "--deskew", action="store_true", help="resample to an orthogonal grid with regular steps"
    )

    for name, verb, does in (
        ("prepare", commands.prepare, "read a source into a prepared store"),
        ("train", commands.train, "prepare, train all stages of all folds, save the model"),
        ("report", commands.report, "write a trained run's HTML report"),
    ):
        one = add(
            name, verb, does, f"{name} --config configs/ct_ich.yaml --set workspace=runs/mine"
        )
        _add_config(one)

    one = add(
        "ablate",
        commands.ablate,
        "show what each stage, and each kind of context, is worth; train what is missing",
        "ablate --config configs/ablations/context.yaml",
    )
    _add_config(one)
    one.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="rebuild tables and page from the scores kept in DIR alone",
    )

    one = add("demo", commands.demo, "the whole way on phantoms, in minutes", "demo")
    _add_config(one, DEMO_CONFIG)

    one = add(
        "export",
        commands.export,
        "write a model as a MONAI Bundle",
        "export runs/demo/model --bundle ich3d_bundle",
    )
    one.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    one.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="folder to write to")

    one = add(
        "doctor",
        commands.doctor,
        "show what is installed, which device is used, and what is missing",
        "doctor",
    )
    one.add_argument("--json", action="store_true", help="JSON instead of lines")

    one = add(
        "info", commands.info, "show what a model is, and that it is whole", "info runs/demo/model"
    )
    one.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    one.add_argument("--json", action="store_true", help="JSON instead of lines")

    one = add(
        "predict",
        commands.predict,
        "score every slice of every series",
        "predict study/ --model runs/demo/model -o out",
    )
    one.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="DICOM files or folders")
    one.add_argument("--model", type=Path, required=True, help="a model folder")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    one.add_argument(
        "--lenient", action="store_true", help="leave flawed slices out, not their series"
    )
    one.add_argument("--fast", action="store_true", help="score with the first fold alone")
    one.add_argument(
        "--dicom",
        action="store_true",
        help="a DICOM SR and a Key Object Selection a series, in OUT/dicom",
    )
    one.add_argument(
        "--report",
        action="store_true",
        help="a page a study to look through in a browser, in OUT/report",
    )
    one.add_argument("--identifiers", action="store_true", help="with --report: show PatientIDs")

    one = add(
        "explain",
        commands.explain,
        "show what moved a label of one slice: which neighbours, and where in the picture",
        "explain study/ --model runs/demo/model --slice 12 --label subdural -o out",
    )
    one.add_argument("path", type=Path, help="a folder, a zip or a file")
    one.add_argument("--model", type=Path, required=True, help="a model folder")
    one.add_argument(
        "--series", metavar="UID", help="which series, or volume, where PATH holds several"
    )
    one.add_argument(
        "--slice",
        metavar="N|UID",
        help="slice_index or SOPInstanceUID (default: where LABEL scores highest)",
    )
    one.add_argument("--label", default="any", help="which label (default any)")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    return parser


def _add_config(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    parser.add_argument(
        "--config", type=Path, required=default is None, default=default, help="a YAML file"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A.B=C",
        help="override a key; repeatable",
    )
