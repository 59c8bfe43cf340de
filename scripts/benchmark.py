"""Time and memory beside what others do for the same: see `python scripts/benchmark.py --help`."""

import argparse
import sys

from ich3d.benchmarks.dicom import dicom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")
    one = subjects.add_parser("dicom", help="a series to HU, and a thousand headers")
    one.add_argument("--repeats", type=int, default=9, help="rounds that count (default 9)")
    one.set_defaults(table=lambda arguments: dicom(arguments.repeats))
    one = subjects.add_parser(
        "predict", help="a study on disk to its tables, beside the plain loop"
    )
    one.add_argument("--repeats", type=int, default=3, help="rounds that count (default 3)")
    one.add_argument(
        "--studies", type=int, default=50, help="studies in the folder of several (default 50)"
    )
    one.set_defaults(table=_predict)
    arguments = parser.parse_args()
    sys.stdout.write(arguments.table(arguments) + "\n")


def _predict(arguments: argparse.Namespace) -> str:
    from ich3d.benchmarks.predict import benchmark

    return benchmark(arguments.repeats, arguments.studies)


if __name__ == "__main__":
    main()
