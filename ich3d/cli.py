"""The `ich3d` command: one verb a task, each a thin door to a library function.

Exit codes: 0 finished; 2 a wrong option, path, config or model; 3 finished, but something was rejected
or no volume was found; 130 interrupted; 1 anything else. Rooms are imported inside the verbs, so that
help answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ich3d
from ich3d.core.console import bars, escape_what_stdout_lacks, log_to_stderr
from ich3d.core.errors import UserError
from ich3d.core.words import counted, printable

OK, FAILED, USAGE, REJECTED, INTERRUPTED = 0, 1, 2, 3, 130
Verb = Callable[[argparse.Namespace], int]
DEMO_CONFIG = Path("configs/demo.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code. A user's mistake is one sentence on stderr."""
    arguments = build_parser().parse_args(argv)
    log_to_stderr(arguments.verbose)
    escape_what_stdout_lacks()
    try:
        return int(arguments.verb(arguments))
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
        prog="ich3d", description="Hemorrhage labels for every slice of a head CT, from the whole study."
    )
    parser.add_argument("--version", action="version", version=f"ich3d {ich3d.__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Verb, does: str, example: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=does, description=does, epilog=f"example: ich3d {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.add_argument("-v", "--verbose", action="count", default=0, help="tell details")
        sub.set_defaults(verb=verb)
        return sub

    one = add(
        "phantom", _phantom, "write synthetic head CT studies as DICOM", "phantom -o phantoms --studies 20"
    )
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    one.add_argument("--studies", type=int, default=20, help="how many (default 20)")
    one.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")

    one = add("import", _import, "turn a public data set into DICOM", "import ct-ich $ICH3D_CT_ICH imported")
    one.add_argument("dataset", choices=["ct-ich"], help="whose layout SRC has")
    one.add_argument("src", type=Path, help="the data set's folder")
    one.add_argument("out", type=Path, help="folder to write to")

    one = add("inspect", _inspect, "show the series below a path, and what is wrong", "inspect study/ --json")
    one.add_argument("path", type=Path, help="a folder, a zip or a file")
    one.add_argument("--json", action="store_true", help="JSON instead of a table")
    one.add_argument("--identifiers", action="store_true", help="tell PatientID in the JSON")
    one.add_argument("--lenient", action="store_true", help="leave flawed slices out, not their series")
    one.add_argument("--headers-only", action="store_true", help="do not read pixels")

    one = add(
        "convert", _convert, "write each series below a path as NIfTI, in HU", "convert study/ -o nifti"
    )
    one.add_argument("path", type=Path, help="a folder, a zip or a file")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    one.add_argument("--series", metavar="UID", help="only this series, or volume")
    one.add_argument(
        "--deskew", action="store_true", help="resample to an orthogonal grid with regular steps"
    )

    for name, verb, does in (
        ("prepare", _prepare, "read a source into a prepared store"),
        ("train", _train, "prepare, train all stages of all folds, save the model"),
        ("ablate", _ablate, "show what each stage of a trained run is worth"),
        ("report", _report, "write a trained run's HTML report"),
    ):
        one = add(name, verb, does, f"{name} --config configs/ct_ich.yaml --set workspace=runs/mine")
        _add_config(one)

    one = add("demo", _demo, "the whole way on phantoms, in minutes", "demo")
    _add_config(one, DEMO_CONFIG)

    one = add(
        "predict",
        _predict,
        "score every slice of every series",
        "predict study/ --model runs/demo/model -o out",
    )
    one.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="DICOM files or folders")
    one.add_argument("--model", type=Path, required=True, help="a model folder")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    return parser


def _add_config(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    parser.add_argument("--config", type=Path, required=default is None, default=default, help="a YAML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A.B=C",
        help="override a key; repeatable",
    )


def _phantom(arguments: argparse.Namespace) -> int:
    from ich3d.core.config import PhantomConfig
    from ich3d.phantom import write_phantoms

    config = PhantomConfig(studies=arguments.studies)
    for _ in bars(write_phantoms(config, arguments.seed, arguments.out), "phantoms", total=config.studies):
        pass
    print(arguments.out / "labels.csv")
    return OK


def _import(arguments: argparse.Namespace) -> int:
    from ich3d.sources import import_ct_ich

    source = import_ct_ich(arguments.src, arguments.out, lambda items: bars(items, "patients"))
    print(source.labels)
    return OK


def _inspect(arguments: argparse.Namespace) -> int:
    import json

    from ich3d.dicom.check import check_pixels, leave_out_undecodable
    from ich3d.dicom.group import Policy
    from ich3d.dicom.index import index
    from ich3d.dicom.inspect import as_json, as_table, with_identifiers

    policy = Policy(lenient=arguments.lenient, headers_only=arguments.headers_only)
    found = index(arguments.path, lambda files: bars(files, "headers"), policy)
    if not policy.headers_only:
        if policy.lenient:
            found = leave_out_undecodable(found, lambda series: bars(series, "decode"))
        found = check_pixels(found, lambda series: bars(series, "pixels"))
    if arguments.json:
        told = as_json(found)
        print(json.dumps(with_identifiers(told, found) if arguments.identifiers else told, indent=1))
    else:
        print(as_table(found))
    if not found.series:
        print(f"ich3d: no CT volume was found in {arguments.path}", file=sys.stderr)
    return REJECTED if found.rejected or not found.series else OK


def _convert(arguments: argparse.Namespace) -> int:
    from ich3d.core.errors import DataError, suggestion
    from ich3d.core.types import Rejected
    from ich3d.dicom.check import check_siblings
    from ich3d.dicom.convert import as_acquired, convert, deskewed
    from ich3d.dicom.index import index

    if arguments.out.exists() and not arguments.out.is_dir():
        raise DataError(f"{arguments.out} is no folder")
    headers = index(arguments.path, lambda files: bars(files, "headers"))
    found = check_siblings(headers, lambda series: bars(series, "pixels"))
    chosen = [s for s in found.series if arguments.series in (None, s.series_uid, s.volume_id)]
    asked = {arguments.series, *(s.series_uid for s in headers.series if s.volume_id == arguments.series)}
    rejected = [item for item in found.rejected if arguments.series is None or item.subject in asked]
    known = {s.volume_id for s in found.series}
    if known and not chosen and not rejected:
        raise DataError(
            f"no series {arguments.series} in {arguments.path}{suggestion(arguments.series, known)}"
        )
    for series in chosen:
        done = convert(series, arguments.out, deskewed if arguments.deskew else as_acquired)
        if isinstance(done, Rejected):
            rejected.append(done)
        else:
            slices, rows, columns = done.shape
            told = f"{done.path}: {counted(slices, 'slice')} of {rows} x {columns}"
            print(printable("; ".join((told, *(reason.detail for reason in done.reasons)))))
    for item in rejected:
        print(printable(f"{item.subject}: {item.detail}"), file=sys.stderr)
    if not chosen:
        print(f"ich3d: no CT volume was found in {arguments.path}", file=sys.stderr)
    return REJECTED if rejected or not chosen else OK


def _prepare(arguments: argparse.Namespace) -> int:
    from ich3d.core.config import load_config
    from ich3d.prepare.build import prepare

    prepared = prepare(load_config(arguments.config, arguments.overrides), bars)
    print(prepared.store.folder)
    return _after(len(prepared.rejected))


def _train(arguments: argparse.Namespace) -> int:
    from ich3d.core.config import load_config
    from ich3d.pipeline import train
    from ich3d.report import write_report
    from ich3d.results import markdown

    config = load_config(arguments.config, arguments.overrides)
    workspace = train(config, bars)
    print(markdown(write_report(config)))
    print(workspace.report)
    return _after(_count_rejected(workspace.rejected))


def _ablate(arguments: argparse.Namespace) -> int:
    from ich3d.ablate import ablate
    from ich3d.core.config import load_config
    from ich3d.results import markdown

    print(markdown(ablate(load_config(arguments.config, arguments.overrides), bars)))
    return OK


def _report(arguments: argparse.Namespace) -> int:
    from ich3d.core.config import load_config
    from ich3d.core.workspace import Workspace
    from ich3d.report import write_report

    config = load_config(arguments.config, arguments.overrides)
    write_report(config)
    print(Workspace(Path(config.workspace)).report)
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    from ich3d.core.config import load_config
    from ich3d.demo import demo

    return _after(demo(load_config(arguments.config, arguments.overrides), print, bars))


def _predict(arguments: argparse.Namespace) -> int:
    from ich3d.core.errors import DataError
    from ich3d.pipeline import load_model, predict

    for path in arguments.paths:
        if not path.exists():
            raise DataError(f"there is no {path}")
    prediction = predict(load_model(arguments.model), arguments.paths, arguments.out, bars)
    for item in prediction.rejected:
        print(printable(f"{item.subject}: {item.detail}"), file=sys.stderr)
    if not prediction.series:
        names = ", ".join(map(str, arguments.paths))
        print(f"ich3d: no head CT volume was found in {names}", file=sys.stderr)
        return REJECTED
    print(arguments.out / "slices.csv")
    return _after(len(prediction.rejected))


def _after(rejected: int) -> int:
    return REJECTED if rejected else OK


def _count_rejected(path: Path) -> int:
    with path.open() as rows:
        return sum(1 for _ in rows) - 1
