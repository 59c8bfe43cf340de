"""The verbs of the `ich3d` command: parsed arguments in, a room's function called, its answer printed, and an
exit code out. Rooms are imported inside the verbs, so that help answers at once.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ich3d.cli.terminal import as_text
from ich3d.core.progress import progress_bar
from ich3d.core.text import pluralize, printable

OK, FAILED, USAGE, REJECTED, INTERRUPTED = 0, 1, 2, 3, 130


def phantom(arguments: Namespace) -> int:
    from ich3d.config.schema import PhantomConfig
    from ich3d.phantom import write_phantoms

    config = PhantomConfig(studies=arguments.studies)
    for _ in progress_bar(
        write_phantoms(config, arguments.seed, arguments.out), "phantoms", total=config.studies
    ):
        pass
    print(arguments.out / "labels.csv")
    return OK


def import_data(arguments: Namespace) -> int:
    from ich3d.sources import import_ct_ich

    source = import_ct_ich(
        arguments.src, arguments.out, lambda items: progress_bar(items, "patients")
    )
    print(source.labels)
    return OK


def inspect(arguments: Namespace) -> int:
    import json

    from ich3d.core.errors import UserError
    from ich3d.dicom.assembly.grouping import Policy
    from ich3d.dicom.index import index
    from ich3d.dicom.inspection import as_json, as_table, with_identifiers
    from ich3d.dicom.validate import check_pixels, leave_out_undecodable

    if arguments.identifiers and not arguments.json:
        raise UserError("--identifiers is for --json: the table names no patient")
    policy = Policy(lenient=arguments.lenient, headers_only=arguments.headers_only)
    found = index(arguments.path, lambda files: progress_bar(files, "headers"), policy)
    if not policy.headers_only:
        if policy.lenient:
            found = leave_out_undecodable(found, lambda series: progress_bar(series, "decode"))
        found = check_pixels(found, lambda series: progress_bar(series, "pixels"))
    if arguments.json:
        told = as_json(found)
        print(
            json.dumps(with_identifiers(told, found) if arguments.identifiers else told, indent=1)
        )
    else:
        print(as_table(found))
    if not found.series:
        print(f"ich3d: no CT volume was found in {arguments.path}", file=sys.stderr)
    return REJECTED if found.rejected or not found.series else OK


def convert(arguments: Namespace) -> int:
    from ich3d.core.errors import DataError, suggestion
    from ich3d.core.types import Rejected
    from ich3d.dicom.index import index
    from ich3d.dicom.validate import check_siblings
    from ich3d.export.nifti import as_acquired, convert, deskewed

    if arguments.out.exists() and not arguments.out.is_dir():
        raise DataError(f"{arguments.out} is no folder")
    headers = index(arguments.path, lambda files: progress_bar(files, "headers"))
    found = check_siblings(headers, lambda series: progress_bar(series, "pixels"))
    chosen = [s for s in found.series if arguments.series in (None, s.series_uid, s.volume_id)]
    asked = {
        arguments.series,
        *(s.series_uid for s in headers.series if s.volume_id == arguments.series),
    }
    rejected = [
        item for item in found.rejected if arguments.series is None or item.subject in asked
    ]
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
            told = f"{done.path}: {pluralize(slices, 'slice')} of {rows} x {columns}"
            print(printable("; ".join((told, *(reason.detail for reason in done.reasons)))))
    for item in rejected:
        print(printable(f"{item.subject}: {item.detail}"), file=sys.stderr)
    if not chosen:
        print(f"ich3d: no CT volume was found in {arguments.path}", file=sys.stderr)
    return REJECTED if rejected or not chosen else OK


def prepare(arguments: Namespace) -> int:
    from ich3d.config.load import load_config
    from ich3d.prepare.build import prepare

    prepared = prepare(load_config(arguments.config, arguments.overrides), progress_bar)
    print(prepared.store.folder)
    return _after(len(prepared.rejected))


def train(arguments: Namespace) -> int:
    from ich3d.config.load import load_config
    from ich3d.crossfit.train import train
    from ich3d.report.run.page import write_report

    config = load_config(arguments.config, arguments.overrides)
    workspace = train(config, progress_bar)
    written = write_report(config)
    print(written.table)
    print(written.page)
    return _after(_count_rejected(workspace.rejected))


def ablate(arguments: Namespace) -> int:
    from ich3d.ablation.run import ablate, rebuild
    from ich3d.config.load import load_config
    from ich3d.core.workspace import Workspace

    config, name = (
        load_config(arguments.config, arguments.overrides),
        f"ablation_{arguments.config.stem}",
    )
    done = (
        rebuild(config, arguments.scores, name)
        if arguments.scores
        else ablate(config, progress_bar, name)
    )
    print(done.table)
    print(done.page)
    if arguments.scores:
        return OK
    return _after(_count_rejected(Workspace(Path(config.workspace)).rejected))


def report(arguments: Namespace) -> int:
    from ich3d.config.load import load_config
    from ich3d.report.run.page import write_report

    print(write_report(load_config(arguments.config, arguments.overrides)).page)
    return OK


def demo(arguments: Namespace) -> int:
    from ich3d.cli.demo import demo
    from ich3d.config.load import load_config

    return _after(demo(load_config(arguments.config, arguments.overrides), print, progress_bar))


def export(arguments: Namespace) -> int:
    from ich3d.export.bundle import export_bundle

    export_bundle(arguments.model, arguments.bundle)
    print(arguments.bundle)
    return OK


def doctor(arguments: Namespace) -> int:
    from ich3d.cli.doctor import doctor

    tree = doctor()
    _tell(tree, arguments)
    return FAILED if tree["missing"]["packages"] else OK


def info(arguments: Namespace) -> int:
    from ich3d.model.info import info

    _tell(info(arguments.model), arguments)
    return OK


def _tell(tree: Mapping[str, Any], arguments: Namespace) -> None:
    import json

    print(json.dumps(tree, indent=1) if arguments.json else as_text(tree))


def predict(arguments: Namespace) -> int:
    from ich3d.core.errors import DataError, UserError
    from ich3d.dicom.assembly.grouping import Policy
    from ich3d.export import dicom_sink, require_highdicom
    from ich3d.inference.run import predict_to_folder
    from ich3d.model.folder import load_model

    for path in arguments.paths:
        if not path.exists():
            raise DataError(f"there is no {path}")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise DataError(f"{arguments.out} is no folder")
    if arguments.identifiers and not arguments.report:
        raise UserError("--identifiers is for --report: the tables name no patient")
    if arguments.dicom:
        require_highdicom()
    model = load_model(arguments.model)
    if arguments.fast:
        folds = len(model.fold_models)
        model = model.fold(model.fold_models[0].fold)
        print(f"ich3d: --fast scores with the first of {folds} folds alone", file=sys.stderr)
    writers = {}
    if arguments.dicom:
        writers["dicom"] = dicom_sink(arguments.out / "dicom", model.sha256)
    if arguments.report:
        from ich3d.report.study.page import page_writer

        name = "identified_report" if arguments.identifiers else "report"
        writers[name] = page_writer(model, arguments.out / "report", arguments.identifiers)
    done = predict_to_folder(
        model,
        arguments.paths,
        arguments.out,
        progress_bar,
        Policy(lenient=arguments.lenient),
        writers,
    )
    for item in done.rejected:
        print(printable(f"{item.subject}: {item.detail}"), file=sys.stderr)
    if not done.scored:
        names = ", ".join(map(str, arguments.paths))
        print(f"ich3d: no head CT volume was found in {names}", file=sys.stderr)
        return REJECTED
    print(arguments.out / "slices.csv")
    return _after(len(done.rejected))


def explain(arguments: Namespace) -> int:
    from ich3d.core.errors import DataError
    from ich3d.core.labels import label_index
    from ich3d.explain.explanation import explain, pick_slice
    from ich3d.inference.scoring import predict_one
    from ich3d.model.folder import load_model
    from ich3d.report.explanation import sentence, write_explanation

    if arguments.out.exists() and not arguments.out.is_dir():
        raise DataError(f"{arguments.out} is no folder")
    label_index(arguments.label)
    model = load_model(arguments.model)
    prediction = predict_one(model, arguments.path, arguments.series, progress_bar)
    for item in prediction.rejected:
        print(printable(f"{item.subject}: {item.detail}"), file=sys.stderr)
    if not prediction.series:
        print(f"ich3d: no head CT volume was found in {arguments.path}", file=sys.stderr)
        return REJECTED
    (series,) = prediction.series
    found = explain(
        model, series, pick_slice(series, arguments.slice, arguments.label), arguments.label
    )
    print(*write_explanation(found, arguments.out), sentence(found), sep="\n")
    return _after(len(prediction.rejected))


def _after(rejected: int) -> int:
    return REJECTED if rejected else OK


def _count_rejected(path: Path) -> int:
    with path.open() as rows:
        return sum(1 for _ in rows) - 1
