"""Time and memory beside the libraries that do the same: see `python scripts/benchmark.py --help`."""

import argparse
import sys

from ich3d.bench.dicom import dicom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")
    one = subjects.add_parser("dicom", help="a series to HU, and a thousand headers")
    one.add_argument("--repeats", type=int, default=9, help="rounds that count (default 9)")
    one.set_defaults(table=dicom)
    arguments = parser.parse_args()
    sys.stdout.write(arguments.table(arguments.repeats) + "\n")


if __name__ == "__main__":
    main()
