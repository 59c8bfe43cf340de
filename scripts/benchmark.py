"""Measure time and memory beside other packages: see `python scripts/benchmark.py --help`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Run one benchmark and print its markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")

    dicom = subjects.add_parser("dicom", help="a series to HU, and a thousand headers")
    dicom.add_argument("--repeats", type=int, default=9, help="rounds that count (default 9)")
    dicom.set_defaults(run=_dicom)

    predict = subjects.add_parser("predict", help="a study on disk to its tables")
    predict.add_argument("--repeats", type=int, default=3, help="rounds that count (default 3)")
    predict.add_argument(
        "--studies", type=int, default=50, help="studies predicted together (default 50)"
    )
    predict.add_argument(
        "--encoder", choices=("seresnext50", "starter"), default="seresnext50",
        help="the network: SE-ResNeXt50 at 384 x 384, or the starter model's at 192 x 192 "
        "(default seresnext50)",
    )  # fmt: skip
    predict.set_defaults(run=_predict)

    start = subjects.add_parser("start", help="the first prediction, from the program's start")
    start.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    start.add_argument("--model", type=Path, required=True, help="model folder")
    start.set_defaults(run=_start)

    prepare = subjects.add_parser("prepare", help="DICOM to the store: rate and memory")
    prepare.add_argument("--repeats", type=int, default=3, help="rounds that count (default 3)")
    prepare.add_argument("--series", type=int, default=16, help="timed series (default 16)")
    prepare.add_argument(
        "--memory", type=int, nargs="*", default=[100, 1000, 3000], metavar="N",
        help="numbers of series whose memory is measured (default: 100 1000 3000)",
    )  # fmt: skip
    prepare.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    prepare.set_defaults(run=_prepare)

    training = subjects.add_parser("training", help="training steps of encoders on this device")
    training.add_argument(
        "--encoder", nargs="+", default=["efficientnet-lite0", "densenet121", "seresnext50"],
        help="the networks (default: efficientnet-lite0 densenet121 seresnext50)",
    )  # fmt: skip
    training.add_argument("--matrix", type=int, default=384, help="pixels a side (default 384)")
    training.add_argument("--batch", type=int, default=32, help="images a step (default 32)")
    training.add_argument(
        "--seconds", type=float, default=10, help="time for each network (default 10)"
    )
    training.add_argument(
        "--studies", type=int, default=24,
        help="phantoms whose slices are fed (default 24; several hundred for a GPU)",
    )  # fmt: skip
    training.set_defaults(run=_training)

    scale = subjects.add_parser("scale", help="the late stages at RSNA's size: time and memory")
    scale.add_argument(
        "--sequences",
        type=Path,
        help="folder of series.csv.gz, real label sequences",
    )
    scale.add_argument("--series", type=int, default=21_700, help="series (default 21700)")
    scale.add_argument(
        "--trained-series",
        type=int,
        default=21_700,
        help="series of training (default 21700)",
    )
    scale.add_argument("--trees", type=int, default=600, help="trees of a stacker (default 600)")
    scale.add_argument("--draws", type=int, default=1000, help="resamples (default 1000)")
    scale.set_defaults(run=_scale)

    arguments = parser.parse_args()
    result = arguments.run(arguments)
    for table in [result] if isinstance(result, str) else result:
        sys.stdout.write(table + "\n")
        sys.stdout.flush()  # a benchmark may take long


def _dicom(arguments: argparse.Namespace) -> str:
    from ich3d.benchmarks.dicom import benchmark_dicom

    return benchmark_dicom(arguments.repeats)


def _predict(arguments: argparse.Namespace) -> str:
    from ich3d.benchmarks.predict import CONFIGS, benchmark_predict

    return benchmark_predict(arguments.repeats, arguments.studies, CONFIGS[arguments.encoder])


def _start(arguments: argparse.Namespace) -> str:
    from ich3d.benchmarks.start import benchmark_start

    return benchmark_start(arguments.repeats, arguments.model)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    from ich3d.benchmarks.prepare import benchmark_prepare

    return benchmark_prepare(
        arguments.series, arguments.memory, arguments.workers, arguments.repeats
    )


def _training(arguments: argparse.Namespace) -> Iterator[str]:
    from ich3d.benchmarks.training import benchmark_training

    return benchmark_training(
        arguments.encoder,
        arguments.matrix,
        arguments.batch,
        arguments.seconds,
        studies=arguments.studies,
    )


def _scale(arguments: argparse.Namespace) -> str:
    from ich3d.benchmarks.scale import benchmark_scale

    return benchmark_scale(
        arguments.sequences,
        arguments.series,
        arguments.trained_series,
        arguments.trees,
        arguments.draws,
    )


if __name__ == "__main__":
    main()
