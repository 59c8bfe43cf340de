"""The functions behind the commands: each calls the library, prints the result and returns a code.

Heavy packages are imported inside the functions, so that `ich3d --help` answers at once.
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ich3d.cli.terminal import (
    as_text,
    print_error,
    print_incomplete,
    print_not_hu,
    print_nothing_found,
    print_notice,
    print_rejected,
    print_warning,
)
from ich3d.core.errors import DataError, UserError, suggestion
from ich3d.core.outputs import claim, flat, remove, require_folder
from ich3d.core.path_kinds import (
    no_such,
    require_model,
    require_predictions,
    require_source,
    require_study,
    require_table,
)
from ich3d.core.processes import torchrun_rank
from ich3d.core.progress import Progress, progress_bar, quiet
from ich3d.core.text import pluralize, printable
from ich3d.core.workspace import Workspace, file_sha256, read_csv

if TYPE_CHECKING:
    from ich3d.config.root import Config
    from ich3d.config.schema import PhantomConfig
    from ich3d.dicom.assembly.grouping import Policy
    from ich3d.dicom.index import Index
    from ich3d.export.nifti import Converted
    from ich3d.inference.run import OutputWriter
    from ich3d.model.folder import Model

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
"""A wrong option, path, config or model: nothing was done."""
REJECTED: Final = 3
"""Finished, but some files or series were rejected, or no CT volume was found."""
EVALUATION_DRAWS: Final = 1000
"""Resamples behind each interval of `ich3d evaluate`."""

MAX_REJECTED: Final = 20
"""How many rejections `ich3d prepare` names on the screen; a table has them all."""

INTERRUPTED: Final = 130
"""Stopped by Ctrl-C: 128 + SIGINT, as shells report it."""


def phantom(arguments: Namespace) -> int:
    """`ich3d phantom`: write synthetic studies as DICOM."""
    from ich3d.config.load import load_config
    from ich3d.config.schema import PhantomConfig
    from ich3d.phantom import write_phantoms

    given = PhantomConfig() if arguments.config is None else load_config(arguments.config).phantom
    config = replace(given, studies=arguments.studies)
    require_folder(arguments.out)
    _claim_phantoms(arguments, config)
    studies = write_phantoms(config, arguments.seed, arguments.out, arguments.workers)
    for _ in _progress(arguments)(studies, "phantoms", total=config.studies):
        pass  # it writes as it is iterated
    _print_result(arguments, arguments.out / "labels.csv")
    return OK


def _claim_phantoms(arguments: Namespace, config: "PhantomConfig") -> None:
    """A study depends on its number, so that more studies of one seed are the same work."""
    from ich3d.config.load import as_dict

    tree = as_dict(config)
    names = [f"study-{number:04d}" for number in range(tree.pop("studies"))]
    work = {"seed": arguments.seed, **flat({"phantom": tree}), "studies": names}
    outputs = ("study-*", "labels.csv")
    if claim(arguments.out, "ich3d phantom", work, outputs, arguments.overwrite):
        remove(arguments.out, outputs)


def import_data(arguments: Namespace) -> int:
    """`ich3d import`: write a public data set as DICOM."""
    from ich3d.sources import import_ct_ich
    from ich3d.sources.ct_ich.diagnosis import read_diagnosis

    if not arguments.src.is_dir():
        raise no_such("folder", arguments.src)
    require_folder(arguments.out)
    patients = sorted(set(read_diagnosis(arguments.src)["patient"]))
    outputs = ("dicom/*", "patients/*", "import.json")
    command = f"ich3d import {arguments.dataset}"
    if claim(arguments.out, command, {"patients": patients}, outputs, arguments.overwrite):
        remove(arguments.out, outputs)
    progress = _progress(arguments)
    source = import_ct_ich(
        arguments.src, arguments.out, lambda patients: progress(patients, "patients")
    )
    unmatched = 0 if source.unmatched is None else _count_rows(source.unmatched)
    if unmatched:
        print_warning(f"{unmatched} slices lack an image or a label: {source.unmatched}")
    _print_result(arguments, source.labels)
    return OK


def config(arguments: Namespace) -> int:
    """`ich3d config`: list the keys of a configuration."""
    from ich3d.config.reference import as_text, keys

    print(as_text(keys(arguments.section)))
    return OK


def inspect(arguments: Namespace) -> int:
    """`ich3d inspect`: show the series below a path, and what is wrong with them."""
    from ich3d.dicom.assembly.grouping import Policy
    from ich3d.dicom.inspection import as_json, as_table, with_identifiers

    if arguments.identifiers and not arguments.json:
        raise UserError("--identifiers needs --json: the table shows no PatientID")

    policy = Policy(
        lenient=arguments.lenient,
        headers_only=arguments.headers_only,
        follow_links=arguments.follow_links,
    )
    require_study(arguments.path)
    index = _index_and_check(arguments.path, policy, _progress(arguments))

    if arguments.json:
        tree = as_json(index)
        if arguments.identifiers:
            tree = with_identifiers(tree, index)
        print(json.dumps(tree, indent=1))
    else:
        print(as_table(index))

    if not index.series:
        print_error(
            f"no CT volume was found in {arguments.path}: name a folder of CT images in DICOM"
        )
    return REJECTED if index.rejected or not index.series else OK


def _index_and_check(path: Path, policy: "Policy", progress: Progress) -> "Index":
    """The series below `path`, with their pixels checked unless the policy says headers only."""
    from ich3d.dicom.index import index
    from ich3d.dicom.validate import check_pixels, leave_out_undecodable
    from ich3d.prepare.series import refusal

    indexed = index(path, progress, policy)
    if policy.headers_only:
        return indexed
    if policy.lenient:
        indexed = leave_out_undecodable(indexed, progress)
    return check_pixels(indexed, progress, refusal)


def convert(arguments: Namespace) -> int:
    """`ich3d convert`: write each series below a path as NIfTI, in Hounsfield units."""
    from ich3d.core.types import Rejected
    from ich3d.dicom.assembly.grouping import Policy
    from ich3d.dicom.index import index
    from ich3d.dicom.validate import leave_out_undecodable, load_volumes
    from ich3d.export.nifti import Converted, as_acquired, convert, deskewed

    require_study(arguments.path)
    require_folder(arguments.out)
    policy = Policy(lenient=arguments.lenient, follow_links=arguments.follow_links)
    progress = _progress(arguments)
    indexed = index(arguments.path, progress, policy)
    if arguments.lenient:
        indexed = leave_out_undecodable(indexed, progress)
    chosen = [
        series
        for series in indexed.series
        if arguments.series in (None, series.series_uid, series.volume_id)
    ]
    rejected = [
        rejection for rejection in indexed.rejected if arguments.series in (None, rejection.subject)
    ]
    if indexed.series and not chosen and not rejected:
        known = [series.volume_id for series in indexed.series]
        raise DataError(
            f"no series {arguments.series} in {arguments.path}{suggestion(arguments.series, known)}"
        )

    # All volumes of a chosen SeriesInstanceUID are read: they are accepted or rejected together.
    series_uids = {series.series_uid for series in chosen}
    volume_ids = {series.volume_id for series in chosen}
    place = deskewed if arguments.deskew else as_acquired
    to_decode = [series for series in indexed.series if series.series_uid in series_uids]
    for volume in load_volumes(to_decode):
        if isinstance(volume, Rejected):
            rejected.append(volume)
        elif volume.series.volume_id in volume_ids:
            match convert(volume, arguments.out, place, arguments.overwrite):
                case Rejected() as rejected_volume:
                    rejected.append(rejected_volume)
                case Converted() as converted:
                    _print_converted(arguments, converted)

    print_rejected(rejected)
    if not chosen:
        print_nothing_found("CT volume", [arguments.path], indexed.left_out)
        return REJECTED
    print_not_hu(indexed.left_out)
    return _code(len(rejected))


def _print_converted(arguments: Namespace, converted: "Converted") -> None:
    """One line for each written file: its path, its size, and the issues of the volume.

    With `--quiet` only files of which there is something to know get one, on stderr.
    """
    slices, rows, columns = converted.shape
    written = f"{converted.path}: {pluralize(slices, 'slice')} of {rows} x {columns}"
    notes = [*(issue.detail for issue in converted.issues), *filter(None, [converted.note])]
    line = "; ".join((written, *notes))
    if not arguments.quiet:
        print(printable(line))
    elif notes:
        print_warning(line)


def prepare(arguments: Namespace) -> int:
    """`ich3d prepare`: read the source into the prepared store."""
    from ich3d.config.load import load_config

    config = load_config(arguments.config, arguments.overrides)
    _require_paths(config)

    # Only now, for they take a second.
    from ich3d.prepare.build import prepare, prepare_shard
    from ich3d.prepare.spread import Shard, Spread

    spread = Spread(arguments.workers, arguments.ray)
    if arguments.shard is not None:
        shard = Shard(*arguments.shard)
        n_parts = prepare_shard(config, shard, _progress(arguments), spread)
        _print_result(
            arguments,
            f"shard {shard}: {pluralize(n_parts, 'part')} prepared; after the last shard, "
            "`ich3d prepare` without --shard completes the store",
        )
        return OK
    prepared = prepare(config, _progress(arguments), arguments.overwrite, spread, arguments.refold)
    print_rejected(prepared.rejected[:MAX_REJECTED])
    if len(prepared.rejected) > MAX_REJECTED:
        rejected = Workspace(Path(config.workspace)).rejected
        print_warning(f"{len(prepared.rejected)} rejected in all, see {rejected}")
    _write_fingerprint_page(config)
    _print_result(arguments, prepared.store.folder)
    return _code(len(prepared.rejected))


def _write_fingerprint_page(config: "Config") -> None:
    """Write the page of the data set's fingerprint; a store that was prepared elsewhere may have
    come without one.
    """
    from ich3d.report.fingerprint_page import write_fingerprint_page  # it loads matplotlib

    workspace = Workspace(Path(config.workspace))
    if workspace.fingerprint.exists():
        write_fingerprint_page(workspace)


def train(arguments: Namespace) -> int:
    """`ich3d train`: prepare, train all stages of all folds, save the model, write the report."""
    from ich3d.config.load import load_config

    config = load_config(arguments.config, arguments.overrides)
    _require_paths(config)

    from ich3d.crossfit.existing import claim_run, is_finished, require_trainable
    from ich3d.prepare.build import prepare  # only now, for it takes a second
    from ich3d.prepare.spread import Spread

    rank = torchrun_rank()
    if rank:
        from ich3d.crossfit.train import train

        train(config)
        return OK

    require_trainable(config)
    claim_run(config, arguments.overwrite)
    spread = Spread(arguments.workers, arguments.ray)
    store = prepare(config, _progress(arguments), arguments.overwrite, spread).store
    _write_fingerprint_page(config)
    workspace = Workspace(Path(config.workspace))
    if rank is None and is_finished(config, store):
        print_notice(f"nothing is left to train in {workspace.root}")
        _print_result(arguments, workspace.report)
        return _code(_count_rows(workspace.rejected))

    # They load the network libraries, which takes seconds.
    from ich3d.crossfit.train import train
    from ich3d.report.run.page import write_report

    train(config, _progress(arguments), arguments.overwrite, store, arguments.ray)
    report = write_report(config)
    _print_result(arguments, report.table, report.page)
    if rank is not None:  # torchrun would take another code for a failure, and start again
        return OK
    return _code(_count_rows(workspace.rejected))


def ablate(arguments: Namespace) -> int:
    """`ich3d ablate`: train what an ablation lacks and write its table and page.

    With `--scores`, both are rebuilt from kept scores, and nothing is trained.
    """
    from ich3d.config.load import load_config
    from ich3d.config.schema import SEQUENCES

    config = load_config(arguments.config, arguments.overrides)
    _require_paths(config)
    if arguments.scores and not arguments.scores.is_dir():
        raise no_such("folder of scores", arguments.scores)

    from ich3d.ablation.run import ablate, rebuild  # only now, for it takes seconds

    name = f"ablation_{arguments.config.stem}"
    if arguments.scores:
        result = rebuild(config, arguments.scores, name, arguments.overwrite)
    else:
        result = ablate(config, _progress(arguments), name, arguments.overwrite, arguments.ray)

    _print_result(arguments, result.table, result.page)
    if arguments.scores or config.source.kind == SEQUENCES:
        return OK
    return _code(_count_rows(Workspace(Path(config.workspace)).rejected))


def report(arguments: Namespace) -> int:
    """`ich3d report`: write the HTML report of a trained run."""
    from ich3d.config.load import load_config

    config = load_config(arguments.config, arguments.overrides)
    if not Workspace(Path(config.workspace)).run.exists():  # a run writes it last
        raise DataError(
            f"{config.workspace} holds no finished run: `ich3d train` with the same --config and "
            "--set trains it"
        )

    from ich3d.report.run.page import write_report  # only now, for it takes seconds

    _print_result(arguments, write_report(config).page)
    return OK


def demo(arguments: Namespace) -> int:
    """`ich3d demo`: all steps on phantoms, from DICOM files to a report."""
    from ich3d.config.load import load_config

    config = load_config(arguments.config, arguments.overrides)
    _require_paths(config)

    from ich3d.cli.demo import demo  # only now, for it takes seconds

    def print_line(line: str) -> None:
        if not arguments.quiet:
            print(line, flush=True)

    return _code(demo(config, print_line, _progress(arguments), arguments.overwrite))


def export(arguments: Namespace) -> int:
    """`ich3d export`: write a model as a MONAI Bundle."""
    require_model(arguments.model)
    require_folder(arguments.bundle)

    from ich3d.export.bundle import export_bundle  # only now, for it takes seconds

    export_bundle(arguments.model, arguments.bundle, arguments.overwrite)
    _print_result(arguments, arguments.bundle)
    return OK


def doctor(arguments: Namespace) -> int:
    """`ich3d doctor`: describe this installation. FAILED where a required package is missing."""
    from ich3d.cli.doctor import doctor

    tree = doctor()
    _print_tree(tree, arguments.json)
    return FAILED if tree["missing"]["packages"] else OK


def info(arguments: Namespace) -> int:
    """`ich3d info`: describe a model folder, after checking that no file of it has changed."""
    from ich3d.model.info import info, info_text

    describe = info if arguments.json else info_text
    _print_tree(describe(_model_folder(arguments.model)), arguments.json)
    return OK


def card(arguments: Namespace) -> int:
    """`ich3d card`: write the card of a trained model beside its folder."""
    require_model(arguments.model)
    evaluations = {}
    for text in arguments.evaluations:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(f"--evaluation must be NAME=CSV, got {text!r}")
        evaluations[name] = Path(path)

    from ich3d.report.model_card import write_card  # only now, for it takes seconds

    path = write_card(arguments.model, arguments.run, evaluations, arguments.overwrite)
    _print_result(arguments, path)
    return OK


def predict(arguments: Namespace) -> int:
    """`ich3d predict`: score every slice of every head CT series below the given paths."""
    _check_predict_arguments(arguments)

    from ich3d.dicom.assembly.grouping import Policy  # only now, for these take seconds
    from ich3d.inference.asked_ids import read_asked_ids
    from ich3d.inference.run import predict_to_folder

    asked_ids = None if arguments.ids is None else read_asked_ids(arguments.ids)
    model = _load_model(_model_folder(arguments.model), arguments.fast)
    outcome = predict_to_folder(
        model,
        arguments.paths,
        arguments.out,
        _progress(arguments),
        Policy(lenient=arguments.lenient, follow_links=arguments.follow_links),
        _output_writers(arguments, model),
        arguments.overwrite,
        asked_ids,
        arguments.ray,
    )

    print_rejected(outcome.rejected)
    if not outcome.scored:
        print_nothing_found("head CT volume", arguments.paths, outcome.left_out)
        return REJECTED
    print_not_hu(outcome.left_out)
    print_incomplete(outcome, arguments.out)
    _print_result(arguments, arguments.out / "slices.csv")
    return _code(len(outcome.rejected))


def evaluate(arguments: Namespace) -> int:
    """`ich3d evaluate`: judge predictions against labels."""
    predictions: Path = arguments.predictions
    require_predictions(predictions)
    require_table("label table", arguments.labels)
    if predictions.samefile(arguments.labels):
        raise DataError(
            f"{predictions} is given as predictions and as labels: name the predictions"
        )
    out = arguments.out or (predictions if predictions.is_dir() else predictions.parent)
    require_folder(out)

    from ich3d.evaluation.predictions import label_scores  # only now, for these take seconds
    from ich3d.report.evaluation_page import OUTPUTS, write_evaluation
    from ich3d.sources import read_labels

    labels = read_labels(arguments.labels, arguments.repair_labels)
    scores = label_scores(predictions, labels, arguments.series)
    work = {
        "table of predictions": file_sha256(
            predictions / "slices.csv" if predictions.is_dir() else predictions
        ),
        "label table": file_sha256(arguments.labels),
        "series table": arguments.series and file_sha256(arguments.series),
        "threshold": arguments.threshold,
    }
    claim(out, "ich3d evaluate", work, OUTPUTS, arguments.overwrite)
    evaluation = write_evaluation(scores, out, arguments.threshold, EVALUATION_DRAWS, seed=0)
    if scores.unscored:
        print_warning(
            f"{pluralize(len(scores.unscored), 'labelled slice')} without a score, counted at the "
            f"base rate: {out / 'evaluation_unscored.csv'}"
        )
    _print_result(arguments, evaluation.tables, evaluation.page)
    return OK


def model_diff(arguments: Namespace) -> int:
    """`ich3d model diff`: write what differs between two models."""
    for model in (arguments.model, arguments.other):
        require_model(model)
    for path in arguments.on:
        require_study(path)
    if arguments.labels is not None:
        require_table("label table", arguments.labels)
    require_folder(arguments.out)

    from ich3d.report.model_diff import OUTPUTS, write_model_diff  # these take seconds
    from ich3d.sources import read_labels

    labels = arguments.labels
    work = {
        "first model": file_sha256(arguments.model / "manifest.json"),
        "second model": file_sha256(arguments.other / "manifest.json"),
        "label table": labels and file_sha256(labels),
    }
    claim(arguments.out, "ich3d model diff", work, OUTPUTS, arguments.overwrite)
    text = write_model_diff(
        arguments.model,
        arguments.other,
        arguments.on,
        arguments.out,
        None if labels is None else read_labels(labels, arguments.repair_labels),
        _progress(arguments),
        arguments.overwrite,
    )
    _print_result(arguments, text, arguments.out / "diff.html")
    tables = [read_csv(arguments.out / folder / "failures.csv") for folder in ("a", "b")]
    rejected = dict.fromkeys(detail for table in tables for detail in table["detail"])
    for detail in rejected:  # once, where neither model has scored it
        print_error(f"not scored: {detail}")
    return REJECTED if rejected else OK


def recalibrate(arguments: Namespace) -> int:
    """`ich3d recalibrate`: adapt a model to labelled studies that are new to it."""
    require_model(arguments.model)
    require_predictions(arguments.predictions)
    require_table("label table", arguments.labels)
    if not arguments.out.exists():
        require_folder(arguments.out)

    from ich3d.recalibrate.run import recalibrate  # only now, for it takes seconds
    from ich3d.sources import read_labels

    result = recalibrate(
        arguments.model,
        arguments.predictions,
        read_labels(arguments.labels, arguments.repair_labels),
        arguments.out,
        arguments.retrain,
        _progress(arguments),
        arguments.overwrite,
    )
    for note in result.notes:
        print_warning(note)
    _print_result(arguments, f"{result.table}\n\n{result.claim}")
    if result.is_written:
        _print_result(arguments, arguments.out)
    else:
        print_warning(f"nothing gains over one standard error: {arguments.out} was not written")
    return OK


def _check_predict_arguments(arguments: Namespace) -> None:
    """Raise UserError before the model is loaded, which takes seconds."""
    for path in arguments.paths:
        require_study(path)
    require_folder(arguments.out)
    if arguments.model is not None:
        require_model(arguments.model)
    if arguments.identifiers and not arguments.report:
        raise UserError("--identifiers needs --report: the tables show no PatientID")
    if arguments.dicom or arguments.dicom_heat:
        from ich3d.export import require_highdicom

        require_highdicom()


def _model_folder(given: Path | None) -> Path:
    """The model folder that was given, or else the starter model, which is said on stderr."""
    if given is not None:
        return given
    from ich3d.model.starter import starter_model, starter_notice

    print_warning(starter_notice())
    return starter_model()


def _load_model(path: Path, fast: bool) -> "Model":
    """The model in a folder; with `fast` only its first fold, which is said on stderr."""
    from ich3d.model.folder import load_model

    model = load_model(path)
    if not fast:
        return model
    print_notice(f"--fast scores with the first of {len(model.fold_models)} folds alone")
    return model.fold(model.fold_models[0].fold)


def _output_writers(arguments: Namespace, model: "Model") -> "dict[str, OutputWriter]":
    """What the options write beside the tables: DICOM, pages, pictures, embeddings."""
    writers = {}
    if arguments.dicom or arguments.dicom_heat:
        from ich3d.export import dicom_writer

        writers["dicom"] = dicom_writer(arguments.out / "dicom", model.sha256)
    if arguments.dicom_heat:
        from ich3d.export import dicom_heat_writer

        writers["dicom_heat"] = dicom_heat_writer(arguments.out / "dicom", model)
    if arguments.report:
        from ich3d.report.study.page import page_writer

        # Two names, so that a resumed run rewrites pages that were made with the other option.
        name = "identified_report" if arguments.identifiers else "report"
        writers[name] = page_writer(model, arguments.out / "report", arguments.identifiers)
    if arguments.preview:
        from ich3d.report.study.preview import preview_writer

        writers["preview"] = preview_writer(arguments.out / "preview", model)
    if arguments.embeddings:
        from ich3d.inference.embeddings import embeddings_writer

        writers["embeddings"] = embeddings_writer(arguments.out / "embeddings", model)
    return writers


def explain(arguments: Namespace) -> int:
    """`ich3d explain`: write what moved one label of one slice: neighbours, features, pixels."""
    from ich3d.core.labels import label_index

    require_study(arguments.path)
    require_folder(arguments.out)
    if arguments.model is not None:
        require_model(arguments.model)
    label_index(arguments.label)  # raises DataError for an unknown label, before any work

    from ich3d.dicom.assembly.grouping import Policy  # only now, for these take seconds
    from ich3d.explain.explanation import explain, pick_slice
    from ich3d.inference.scoring import predict_one
    from ich3d.model.folder import load_model
    from ich3d.report.explanation import OUTPUTS, summary_sentence, write_explanation

    model = load_model(_model_folder(arguments.model))

    policy = Policy(lenient=arguments.lenient, follow_links=arguments.follow_links)
    prediction = predict_one(model, arguments.path, arguments.series, _progress(arguments), policy)
    print_rejected(prediction.rejected)
    if not prediction.series:
        print_nothing_found("head CT volume", [arguments.path], prediction.left_out)
        return REJECTED

    (series,) = prediction.series
    slice_index = pick_slice(series, arguments.slice, arguments.label)
    key = series.series.keys[slice_index]
    work = {
        "model": model.sha256,
        "slice": f"{key.sop_uid} {key.frame or ''}".strip(),
        "label": arguments.label,
        "lenient": policy.lenient,
    }
    claim(arguments.out, "ich3d explain", work, OUTPUTS, arguments.overwrite)
    explanation = explain(model, series, slice_index, arguments.label)
    paths = write_explanation(explanation, arguments.out)
    _print_result(arguments, *paths, summary_sentence(explanation))
    return _code(len(prediction.rejected))


def _require_paths(config: "Config") -> None:
    """Raise DataError for a wrong path of a configuration, before heavy packages are loaded."""
    from ich3d.config.schema import SEQUENCES

    require_folder(Path(config.workspace))
    source = config.source
    if source.kind not in ("phantom", SEQUENCES) and source.path is not None:
        require_source(source.kind, Path(source.path))
    if source.labels is not None:
        require_table("label table", Path(source.labels))


def _progress(arguments: Namespace) -> Progress:
    """Shows how far a command is, unless `--quiet`."""
    return quiet if arguments.quiet else progress_bar


def _print_result(arguments: Namespace, *results: object) -> None:
    """Print what a command wrote or found out, in a line each, unless `--quiet`: it is in its
    files. Commands that only show something print it always.
    """
    if not arguments.quiet:
        print(*results, sep="\n")


def _print_tree(tree: Mapping[str, Any], as_json: bool) -> None:
    print(json.dumps(tree, indent=1) if as_json else as_text(tree))


def _code(rejected: int) -> int:
    """The exit code of a finished command that rejected so many files or series."""
    return REJECTED if rejected else OK


def _count_rows(path: Path) -> int:
    """Number of rows in a CSV file, without its header."""
    with path.open() as lines:
        return sum(1 for _ in lines) - 1
