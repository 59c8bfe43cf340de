"""The `ich3d` command: its arguments, and what happens when a command fails."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import ich3d
from ich3d.cli import commands, options
from ich3d.cli.commands import FAILED, INTERRUPTED, OK, USAGE
from ich3d.cli.completion import SHELLS, completion_script
from ich3d.cli.terminal import as_error, escape_unencodable, log_to_stderr, print_error
from ich3d.core.errors import UserError, os_error_sentence, suggestion

Command = Callable[[argparse.Namespace], int]
"""Runs one command with its parsed arguments and returns the exit code."""

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What argparse returns for adding commands; it has no public name there."""

DEMO_CONFIG: Final = Path("configs/demo.yaml")

EXIT_CODES: Final = (
    "0 finished; 2 a wrong option, path, config or model; 3 finished, but something was rejected "
    "or no CT volume was found; 130 interrupted; 1 anything else"
)

_FIRST_STEPS: Final = f"""\
first steps, without data of your own:
  ich3d phantom -o phantoms --studies 3     draw three head CT studies, as DICOM files
  ich3d predict phantoms -o out --report    score them; then open out/report/index.html

`ich3d COMMAND --help` shows the options of a command and an example.
{textwrap.fill(f"Exit codes: {EXIT_CODES}.", 96)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `ich3d`; None takes them from `sys.argv`.

    A `UserError` or an error of the file system is printed as one sentence on stderr. Any other
    exception is a bug and keeps its traceback.
    """
    parser = build_parser()
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        return USAGE
    arguments = parser.parse_args(words)
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
    """A parser whose errors are red on a terminal, suggest the nearest name, and say what to do."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        error = f"{self.prog}: error: {message} (see `{self.prog} --help`)"
        self.exit(USAGE, as_error(error) + "\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Each command refuses by itself what it does not know, so that hints and usage are its
        own. A misspelt option is told first: the one that was meant may be required.
        """
        words = takewhile(lambda word: word != "--", args)
        if self._subparsers is not None:  # the other words are for the command's own parser
            words = takewhile(lambda word: word.startswith("-"), words)
        for word in words:
            name = word.partition("=")[0]
            is_known = any(option.startswith(name) for option in self._option_string_actions)
            if name.startswith("--") and " " not in name and not is_known:
                hint = suggestion(name, self._option_string_actions, otherwise="")
                self.error(f"there is no option {name}{hint}")

        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse calls it for commands and for arguments with `choices`."""
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest).lower()
            self.error(f"no {what} is called {value!r}{suggestion(str(value), action.choices)}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Among the parsed arguments, `command` is the function that runs the chosen command.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="ich3d",
        description="Hemorrhage labels for every slice of a head CT, from the whole study.",
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ich3d {ich3d.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    for add in (
        # Your own studies
        _add_inspect,
        _add_predict,
        _add_explain,
        _add_convert,
        _add_evaluate,
        _add_recalibrate,
        # Training
        _add_prepare,
        _add_train,
        _add_report,
        _add_ablate,
        _add_config_reference,
        # Models
        _add_info,
        _add_card,
        _add_model_commands,
        _add_export,
        # The rest
        _add_demo,
        _add_phantom,
        _add_import,
        _add_doctor,
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
    options.add_out(parser)
    parser.add_argument(
        "--studies",
        type=options.positive,
        default=20,
        metavar="N",
        help="number of studies (default: 20)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file whose section `phantom` says what heads and scanners are like (default: "
        "what `ich3d config phantom` lists)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="start of the random numbers: the same seed writes the same files (default: 0)",
    )
    options.add_workers(parser, "draw and write studies")


def _add_import(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "import",
        commands.import_data,
        "write the images of a public data set as DICOM, with labels",
        example="import ct-ich ct-ich imported",
    )
    parser.add_argument("dataset", choices=["ct-ich"], help="name of the data set")
    parser.add_argument(
        "src", type=Path, metavar="SRC", help="folder that holds the data set, unpacked"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help=options.OUT_HELP)
    options.add_overwrite(parser)


def _add_inspect(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "inspect",
        commands.inspect,
        "show the CT series below a path, and what is wrong with them",
        example="inspect study/",
    )
    options.add_path(parser)
    options.add_follow_links(parser)
    options.add_json(parser)
    parser.add_argument("--identifiers", action="store_true", help="show PatientIDs; needs --json")
    options.add_lenient(parser)
    parser.add_argument(
        "--headers-only", action="store_true", help="faster: do not check that pixels can be read"
    )


def _add_convert(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "convert",
        commands.convert,
        "write each CT series below a path as NIfTI, in Hounsfield units",
        example="convert study/ -o nifti --deskew",
    )
    options.add_path(parser)
    options.add_out(parser)
    options.add_lenient(parser)
    options.add_follow_links(parser)
    parser.add_argument(
        "--series",
        metavar="UID",
        help="only this SeriesInstanceUID, or this volume of `ich3d inspect` (default: all series)",
    )
    parser.add_argument(
        "--deskew",
        action="store_true",
        help="resample tilted or irregular series to an orthogonal grid with equal steps, by "
        "interpolation between slices",
    )


def _add_prepare(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "prepare",
        commands.prepare,
        "read, crop and resample all series of a training set once, for `train`",
        example="prepare --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    options.add_config(parser)
    options.add_source_options(parser)
    options.add_workers(parser, "read and resample")
    parser.add_argument(
        "--shard",
        type=options.shard,
        metavar="i/n",
        help="prepare only share i of n (1/8 to 8/8), while other machines that see the same "
        "folders prepare the others; `prepare` without --shard then completes the work",
    )
    parser.add_argument(
        "--refold",
        action="store_true",
        help="assign all patients to folds anew (default: patients that have a fold keep it)",
    )
    options.add_ray(parser)
    options.add_overwrite(parser)


def _add_config_reference(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "config",
        commands.config,
        "list the keys of a configuration, with default and meaning",
        example="config slices",
    )
    parser.add_argument(
        "section", nargs="?", metavar="SECTION", help="only the keys of this section (default: all)"
    )


def _add_train(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "train",
        commands.train,
        "train a model: prepare, train all stages of all folds, write the report",
        example="train --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    options.add_config(parser)
    options.add_source_options(parser)
    options.add_workers(parser, "read and resample")
    options.add_ray(parser)
    options.add_overwrite(parser)


def _add_report(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "report",
        commands.report,
        "write the HTML report of a trained run again",
        example="report --config configs/ct_ich.yaml --set workspace=runs/mine",
    )
    options.add_config(parser)
    options.add_source_options(parser)


def _add_ablate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "ablate",
        commands.ablate,
        "compare variants of a model on the same folds; trains what is missing",
        example="ablate --config configs/ablations/context.yaml",
    )
    options.add_config(parser)
    options.add_source_options(parser)
    options.add_ray(parser)
    options.add_overwrite(parser)
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="train nothing: write table and page from the scores that an ablation kept in DIR",
    )


def _add_demo(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "demo",
        commands.demo,
        "predict with the starter model, then train on synthetic studies, in minutes",
        example="demo",
    )
    options.add_config(parser, default=DEMO_CONFIG)
    options.add_overwrite(parser)


def _add_export(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "export",
        commands.export,
        "write a model as a MONAI Bundle",
        example="export runs/demo/model --bundle ich3d_bundle",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help=options.OUT_HELP)
    options.add_overwrite(parser)


def _add_doctor(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "doctor",
        commands.doctor,
        "show installed and missing packages, and the device that is used",
        example="doctor",
    )
    options.add_json(parser)


def _add_info(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "info",
        commands.info,
        "describe a model, and check that its files are whole and unchanged",
        example="info runs/demo/model",
    )
    parser.add_argument(
        "model",
        type=Path,
        nargs="?",
        metavar="MODEL",
        help=f"{options.MODEL_HELP} (default: the starter model that comes with ich3d)",
    )
    options.add_json(parser)


def _add_card(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "card",
        commands.card,
        "write the card of a trained model: its data, figures and limits",
        example="card runs/demo/model",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run folder that MODEL was trained in (default: the folder that holds MODEL)",
    )
    parser.add_argument(
        "--evaluation",
        dest="evaluations",
        action="append",
        default=[],
        metavar="NAME=CSV",
        help="also show figures on other data, under the heading NAME: CSV is the evaluation.csv "
        "that `ich3d evaluate` wrote into an output folder of `ich3d predict --model MODEL`; may "
        "be repeated",
    )
    options.add_overwrite(parser)


def _add_predict(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "predict",
        commands.predict,
        "score every slice of every head CT series below some paths",
        example="predict study/ -o out --report",
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="folders, zips or DICOM files"
    )
    options.add_model(parser)
    options.add_out(parser)
    options.add_lenient(parser)
    options.add_follow_links(parser)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="faster: score with the first fold of the model alone, not the mean of all",
    )
    parser.add_argument(
        "--dicom",
        action="store_true",
        help="also write a DICOM SR and a Key Object Selection for each series, to OUT/dicom; "
        "needs ich3d[dicom]",
    )
    parser.add_argument(
        "--dicom-heat",
        action="store_true",
        help="as --dicom, and a Parametric Map for each flagged label: where the encoder saw it",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write an HTML page for each study, to OUT/report",
    )
    parser.add_argument(
        "--identifiers", action="store_true", help="show PatientIDs; needs --report"
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="also write a picture of each series, with its slices and their probabilities, to "
        "OUT/preview",
    )
    options.add_ray(parser)
    parser.add_argument(
        "--ids",
        type=Path,
        metavar="CSV",
        help="write to submission.csv exactly the rows of this table's column ID, in its order, "
        "such as those of RSNA's sample submission; a slice without a score gets the base rate",
    )
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="also write the embeddings of each series, to OUT/embeddings, for `ich3d recalibrate "
        "--retrain`; needs a model with a frozen network, as the starter model is",
    )


def _add_evaluate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "evaluate",
        commands.evaluate,
        "compare predictions with labels: metrics with intervals, a table and a page",
        example="evaluate out --labels labels.csv",
    )
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="an output folder of `ich3d predict`, or a submission (CSV with the columns ID,Label)",
    )
    options.add_labels(parser)
    parser.add_argument(
        "--series",
        type=Path,
        metavar="CSV",
        help="for a submission: CSV with the columns SOPInstanceUID,series,patient, which says "
        "which slices belong together",
    )
    parser.add_argument(
        "--threshold",
        type=options.threshold,
        default=0.5,
        metavar="P",
        help="probability from which on a slice or series is flagged (default: 0.5)",
    )
    parser.add_argument(
        "-o", "--out", type=Path, help=f"{options.OUT_HELP} (default: that of the predictions)"
    )
    options.add_overwrite(parser)


def _add_recalibrate(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "recalibrate",
        commands.recalibrate,
        "adapt a model to a hospital, by labelled studies of its own",
        example="recalibrate runs/demo/model --predictions out --labels labels.csv -o new_model",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder of `ich3d predict --model MODEL`; patients that MODEL was trained on "
        "are left out",
    )
    options.add_labels(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="NEW_MODEL",
        help="folder of the adapted model; not written if patients that it was not fitted on do "
        "not gain by it",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train context models and stackers anew, instead of a scale and a shift of each "
        "label's logits; needs predictions with --embeddings",
    )
    options.add_overwrite(parser)


def _add_explain(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "explain",
        commands.explain,
        "show which slices and which part of the image moved a score of one slice",
        example="explain study/ --slice 12 --label subdural -o out",
    )
    options.add_path(parser)
    options.add_model(parser)
    options.add_lenient(parser)
    options.add_follow_links(parser)
    parser.add_argument(
        "--series",
        metavar="UID",
        help="this SeriesInstanceUID, or this volume of `ich3d inspect`; needed if PATH holds "
        "several series",
    )
    parser.add_argument(
        "--slice",
        metavar="N|UID",
        help="which slice: its slice_index in slices.csv, from 0 at the inferior end, or its "
        "SOPInstanceUID (default: the slice with the highest score of LABEL)",
    )
    parser.add_argument(
        "--label", default="any", help="which label, such as subdural (default: any)"
    )
    options.add_out(parser)


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
    options.add_labels(diff, required=False)
    options.add_out(diff)


def _add_completion(subparsers: Subparsers) -> None:
    parser = _add_command(
        subparsers,
        "completion",
        completion,
        "print a script that lets Tab complete commands, options, paths and keys",
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
    chatter.add_argument("-v", "--verbose", action="store_true", help="show more details")
    chatter.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show no progress and no list of written files; warnings and errors stay",
    )
    parser.set_defaults(command=command)
    return parser


def _discard_stdout() -> None:
    """Send the rest of stdout nowhere, so that the flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
