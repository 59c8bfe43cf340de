"""The `ich3d` command: its arguments, and what happens when a command fails.

Exit codes: 0 finished; 1 failed; 2 a wrong option, path, config or model; 3 finished, but
something was rejected or no CT volume was found; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import ich3d
from ich3d.cli import commands
from ich3d.cli.commands import FAILED, INTERRUPTED, OK, USAGE
from ich3d.cli.completion import SHELLS, completion_script
from ich3d.cli.terminal import as_error, escape_unencodable, log_to_stderr, print_error
from ich3d.core.errors import UserError, os_error_sentence
from ich3d.core.hardware import usable_cores

Command = Callable[[argparse.Namespace], int]
"""Runs one command with its parsed arguments and returns the exit code."""

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What argparse returns for adding commands; it has no public name there."""

DEMO_CONFIG: Final = Path("configs/demo.yaml")

REPAIR_HELP: Final = "mend labels whose any contradicts the subtypes, instead of refusing the table"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `ich3d`; None takes them from `sys.argv`.

    A `UserError` or an error of the file system is printed as one sentence on stderr. Any other
    exception is a bug and keeps its traceback.
    """
    arguments = build_parser().parse_args(argv)
    log_to_stderr(arguments.verbose, arguments.quiet)
    escape_unencodable()

    try:
        command: Command = arguments.command
        code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has closed its end
        _discard_stdout()
        return FAILED
    except UserError as error:
        print_error(str(error))
        return USAGE
    except OSError as error:
        print_error(os_error_sentence(error))
        return FAILED
    except KeyboardInterrupt:
        print_error("interrupted; run the same command again to continue")
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are red on a terminal and say what to do next."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        error = f"{self.prog}: error: {message}; see `{self.prog} --help`"
        self.exit(USAGE, as_error(error) + "\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Among the parsed arguments, `command` is the function that runs the chosen command.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="ich3d",
        description="Hemorrhage labels for every slice of a head CT, from the whole study.",
        epilog="`ich3d COMMAND --help` shows the options of a command and an example.",
    )
    parser.add_argument("--version", action="version", version=f"ich3d {ich3d.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    for add in (
        _add_phantom,
        _add_import,
        _add_inspect,
        _add_convert,
        _add_config_reference,
        _add_prepare,
        _add_train,
        _add_report,
        _add_ablate,
        _add_demo,
        _add_export,
        _add_doctor,
        _add_info,
        _add_card,
        _add_predict,
        _add_evaluate,
        _add_recalibrate,
        _add_explain,
        _add_model_commands,
        _add_completion,
    ):
        add(subparsers)
    return parser


def _add_phantom(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "phantom",
        commands.phantom,
        "write synthetic head CT studies as DICOM, with labels",
        example="phantom -o phantoms --studies 20",
    )
    _add_out(parser)
    parser.add_argument("--studies", type=int, default=20, help="number of studies (default 20)")
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML file whose section `phantom` says what heads and scanners are like",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed writes the same files (default 0)"
    )
    _add_workers(parser, "draw and write studies")


def _add_import(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "import",
        commands.import_data,
        "write a public data set as DICOM, with labels",
        example="import ct-ich $ICH3D_CT_ICH imported",
    )
    parser.add_argument("dataset", choices=["ct-ich"], help="the data set")
    parser.add_argument("src", type=Path, help="folder that holds the data set, as downloaded")
    parser.add_argument("out", type=Path, help="folder to write to")
    _add_overwrite(parser)


def _add_inspect(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "inspect",
        commands.inspect,
        "show the CT series below a path, and what is wrong with them",
        example="inspect study/ --json",
    )
    _add_path(parser)
    _add_follow_links(parser)
    _add_json(parser)
    parser.add_argument("--identifiers", action="store_true", help="with --json: show PatientIDs")
    _add_lenient(parser)
    parser.add_argument(
        "--headers-only", action="store_true", help="faster: do not check that pixels decode"
    )


def _add_convert(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "convert",
        commands.convert,
        "write each CT series below a path as NIfTI, in Hounsfield units",
        example="convert study/ -o nifti --deskew",
    )
    _add_path(parser)
    _add_out(parser)
    _add_lenient(parser)
    _add_follow_links(parser)
    parser.add_argument("--series", metavar="UID", help="only this SeriesInstanceUID or volume_id")
    parser.add_argument(
        "--deskew",
        action="store_true",
        help="resample tilted or irregular series to an orthogonal grid with equal steps; planes "
        "between slices are interpolated",
    )


def _add_prepare(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "prepare",
        commands.prepare,
        "crop and resample all series of a source into a prepared store",
        example="prepare --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    _add_config(parser)
    _add_workers(parser, "read and resample")
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="i/n",
        help="prepare only share i of n, as other machines with the same folders prepare the "
        "others; then `prepare` without --shard completes the store",
    )
    parser.add_argument(
        "--refold",
        action="store_true",
        help="give all patients a fold anew; without it those of a finished store keep theirs",
    )
    _add_ray(parser)
    _add_overwrite(parser)


def _add_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on the Ray cluster at ADDRESS, or `local` (needs ich3d[ray]); all machines see "
        "the files under the same paths",
    )


def _positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    """`i/n` as two numbers."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 2/8")
    return int(number), int(count)


def _add_config_reference(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "config",
        commands.config,
        "list each key of a configuration, its default and what it means",
        example="config slices",
    )
    parser.add_argument(
        "section", nargs="?", metavar="SECTION", help="only the keys of this section"
    )


def _add_train(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "train",
        commands.train,
        "prepare, train all stages of all folds, save the model, write the report",
        example="train --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    _add_config(parser)
    _add_workers(parser, "read and resample")
    _add_ray(parser)
    _add_overwrite(parser)


def _add_report(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "report",
        commands.report,
        "write the HTML report of a trained run again",
        example="report --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    _add_config(parser)


def _add_ablate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "ablate",
        commands.ablate,
        "compare stages and kinds of context; what is not trained yet is trained first",
        example="ablate --config configs/ablations/context.yaml",
    )
    _add_config(parser)
    _add_ray(parser)
    _add_overwrite(parser)
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="train nothing: write table and page from the scores kept in DIR",
    )


def _add_demo(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "demo",
        commands.demo,
        "predict with the starter model, then all steps on synthetic studies, in minutes",
        example="demo --set workspace=runs/demo",
    )
    _add_config(parser, default=DEMO_CONFIG)
    _add_overwrite(parser)


def _add_export(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "export",
        commands.export,
        "write a model as a MONAI Bundle",
        example="export runs/demo/model --bundle ich3d_bundle",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    _add_overwrite(parser)


def _add_doctor(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "doctor",
        commands.doctor,
        "show installed and missing packages, and the device that is used",
        example="doctor",
    )
    _add_json(parser)


def _add_info(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "info",
        commands.info,
        "describe a model, and check that its files are complete and unchanged",
        example="info runs/demo/model",
    )
    parser.add_argument(
        "model",
        type=Path,
        nargs="?",
        metavar="MODEL",
        help="a model folder (default: the starter model of this package)",
    )
    _add_json(parser)


def _add_card(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "card",
        commands.card,
        "write the card of a trained model: data, licence, out-of-fold figures, thresholds, limits",
        example="card runs/demo/model",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run folder that trained it (default: the folder that holds MODEL)",
    )
    parser.add_argument(
        "--evaluation",
        dest="evaluations",
        action="append",
        default=[],
        metavar="NAME=CSV",
        help="also show evaluation.csv of an evaluated prediction by MODEL; may be repeated",
    )
    _add_overwrite(parser)


def _add_predict(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "predict",
        commands.predict,
        "score every slice of every head CT series below some paths",
        example="predict study/ -o out",
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="folders, zips or DICOM files"
    )
    _add_model(parser)
    _add_out(parser)
    _add_lenient(parser)
    _add_follow_links(parser)
    parser.add_argument(
        "--fast", action="store_true", help="use the model's first fold only, not the mean of all"
    )
    parser.add_argument(
        "--dicom",
        action="store_true",
        help="also write a DICOM SR and a Key Object Selection for each series, to OUT/dicom",
    )
    parser.add_argument(
        "--dicom-heat",
        action="store_true",
        help="as --dicom, and a Parametric Map of each flagged label: where the encoders saw it",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write an HTML page for each study, to OUT/report",
    )
    parser.add_argument("--identifiers", action="store_true", help="with --report: show PatientIDs")
    parser.add_argument(
        "--preview",
        action="store_true",
        help="also write a picture of each series, with its slices and their probabilities, to "
        "OUT/preview",
    )
    _add_ray(parser)
    parser.add_argument(
        "--ids",
        type=Path,
        metavar="CSV",
        help="write to submission.csv the rows that the column ID of this table asks for, in its "
        "order; slices that were not given get the base rate",
    )
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="also write each series' embeddings by the model's frozen network, to OUT/embeddings",
    )


def _add_evaluate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "evaluate",
        commands.evaluate,
        "judge predictions against labels: metrics with intervals, as a table and a page",
        example="evaluate out --labels labels.csv",
    )
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="an output folder of `ich3d predict`, or a submission file ID,Label",
    )
    _add_labels(parser)
    parser.add_argument(
        "--series",
        type=Path,
        metavar="CSV",
        help="table SOPInstanceUID,series,patient: which slices belong together",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="probability from which on a slice or series is flagged (default 0.5)",
    )
    parser.add_argument(
        "-o", "--out", type=Path, help="folder to write to (default: beside the predictions)"
    )
    _add_overwrite(parser)


def _add_recalibrate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "recalibrate",
        commands.recalibrate,
        "adapt a model to a hospital by its own labelled studies, where held-out ones gain by it",
        example="recalibrate runs/demo/model --predictions out --labels labels.csv -o new_model",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="OUT",
        help="an output folder of `ich3d predict` by MODEL; whom it was trained on is left out",
    )
    _add_labels(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="NEW_MODEL", help="folder to write to"
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train context models and stackers anew; needs `ich3d predict --embeddings`",
    )
    _add_overwrite(parser)


def _add_explain(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "explain",
        commands.explain,
        "show which neighbouring slices and which part of the image moved a label of one slice",
        example="explain study/ --slice 12 --label subdural -o out",
    )
    _add_path(parser)
    _add_model(parser)
    _add_follow_links(parser)
    parser.add_argument(
        "--series",
        metavar="UID",
        help="SeriesInstanceUID or volume_id, needed if PATH holds several series",
    )
    parser.add_argument(
        "--slice",
        metavar="N|UID",
        help="slice_index or SOPInstanceUID (default: the slice with the highest score of LABEL)",
    )
    parser.add_argument("--label", default="any", help="which label (default any)")
    _add_out(parser)


def _add_model_commands(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "model",
        help="compare trained models: `ich3d model diff`",
        description="Compare trained models.",
        epilog="example: ich3d model diff A B --on study/ -o out",
    )
    group = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    diff = _add_command(
        group,
        "diff",
        commands.model_diff,
        "show what differs between two models, and on which slices their answers differ",
        example="model diff runs/old/model runs/new/model --on study/ -o out",
    )
    diff.add_argument("model", type=Path, metavar="A", help="the folder of the first model")
    diff.add_argument("other", type=Path, metavar="B", help="the folder of the second model")
    diff.add_argument(
        "--on",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="folders, zips or DICOM files that both models score",
    )
    _add_labels(diff, required=False)
    _add_out(diff)


def _add_completion(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "completion",
        completion,
        "print a script that completes commands, options, paths and config keys in a shell",
        example='completion bash > ~/.ich3d-completion; echo ". ~/.ich3d-completion" >> ~/.bashrc',
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def completion(arguments: argparse.Namespace) -> int:
    """`ich3d completion`: print the completion script for a shell."""
    print(completion_script(build_parser(), arguments.shell))
    return OK


def _add_command(
    subparsers: Subparsers, name: str, command: Command, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add one command, and return its parser so that its arguments can be added.

    Args:
        subparsers: the commands of `ich3d`.
        name: what the user types.
        command: the function that runs it.
        summary: what it does, in one line.
        example: a complete command, without the leading `ich3d`.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example: ich3d {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chatter = parser.add_mutually_exclusive_group()
    chatter.add_argument("-v", "--verbose", action="store_true", help="log more details")
    chatter.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print only warnings, errors and what is asked for",
    )
    parser.set_defaults(command=command)
    return parser


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="a folder, a zip or a DICOM file")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    _add_overwrite(parser)


def _add_workers(parser: argparse.ArgumentParser, work: str) -> None:
    parser.add_argument(
        "--workers",
        type=_positive,
        default=usable_cores(),
        metavar="N",
        help=f"processes that {work} (default: %(default)s, the usable cores)",
    )


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what is there already and was made from something else",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, help="a model folder (default: the starter model of this package)"
    )


def _add_labels(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--labels",
        type=Path,
        required=required,
        help="label table ID,Label with ID = <SOPInstanceUID>_<label>, or a column a label",
    )
    parser.add_argument("--repair-labels", action="store_true", help=REPAIR_HELP)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _add_lenient(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="leave out slices that cannot be used instead of rejecting their series, join single "
        "slices that fit one series, and score series whose values do not look like HU",
    )


def _add_follow_links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="also follow symbolic links that lead out of the given folder",
    )


def _add_config(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """Add `--config` and `--set`; without a default the config file must be given."""
    default_text = "" if default is None else f" (default {default})"
    parser.add_argument(
        "--config",
        type=Path,
        required=default is None,
        default=default,
        help=f"YAML file with the configuration{default_text}",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one value of the configuration; may be repeated",
    )
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
        help="also follow symbolic links that lead out of the source's folder",
    )


def _discard_stdout() -> None:
    """Send the rest of stdout nowhere, so that the flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
