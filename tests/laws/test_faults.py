"""Every command survives damaged inputs, full disks, closed folders, and folders that are gone.

Wanted for each: one sentence that names the path and what to do, the right exit code, no partial
file, nothing finished lost; and the same command ends well once the fault is gone.
"""

import logging
import os
import re
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import pytest

from ich3d.cli.commands import FAILED, OK, REJECTED, USAGE
from ich3d.cli.parser import build_parser, main
from ich3d.config.ablation import AblationConfig
from ich3d.config.root import Config
from ich3d.config.schema import SourceConfig
from ich3d.core.workspace import Workspace
from ich3d.dicom.write import write_series
from ich3d.inference.run import predict_to_folder
from ich3d.prepare.store import Store
from tests.helpers.command import Run, write_config
from tests.helpers.ct_ich import write_ct_ich
from tests.helpers.runs import copy_run
from tests.helpers.series import head_series

T = TypeVar("T")
NOBODY: Final = 65534
SMALL_BYTES = 100
"""Below the size of every output."""

WRITES_NOTHING = {"inspect", "config", "completion", "doctor", "info"}


@dataclass(frozen=True)
class Bench:
    """A folder with an input of each kind.

    Attributes:
        root: the folder; everybody may read it.
        config: of a finished run in `root`.
    """

    root: Path
    config: Config

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def run(self) -> Workspace:
        return Workspace(Path(self.config.workspace))


@dataclass(frozen=True)
class Verb:
    """A command, with what it reads and where it writes in a `Bench`.

    Attributes:
        words: its arguments.
        inputs: files that it reads; each is cut in turn.
        out: the folder that it makes; None where it prints alone, or writes beside its input.
        before: what to remove before it is run, so that it has something to do.
    """

    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    out: str | None = None
    before: tuple[str, ...] = ()


SLICE = "study/2.dcm"
MODEL = ("run/model/manifest.json", "run/model/encoder/fold0.safetensors")
OOF = ("run/run.json", "run/oof/stack.csv")
VERBS = {
    "phantom": Verb(
        ("phantom", "-o", "out", "--studies", "1", "--config", "phantom.yaml"),
        ("phantom.yaml",),
        "out",
    ),
    "import": Verb(
        ("import", "ct-ich", "ct_ich", "out"), ("ct_ich/hemorrhage_diagnosis.csv",), "out",
    ),
    "config": Verb(("config",)),
    "completion": Verb(("completion", "bash")),
    "doctor": Verb(("doctor",)),
    "inspect": Verb(("inspect", "study"), (SLICE,)),
    "inspect zip": Verb(("inspect", "study.zip"), ("study.zip",)),
    "convert": Verb(("convert", "study", "-o", "out"), (SLICE,), "out"),
    "predict": Verb(
        ("predict", "study", "--model", "run/model", "-o", "out", "--report"), (SLICE, *MODEL),
        "out",
    ),
    "predict zip": Verb(
        ("predict", "study.zip", "--model", "run/model", "-o", "out"), ("study.zip",), "out"
    ),
    "explain": Verb(
        ("explain", "study", "--model", "run/model", "-o", "out"), (SLICE, *MODEL), "out"
    ),
    "model diff": Verb(
        ("model", "diff", "run/model", "run/model", "--on", "study", "-o", "out"),
        (SLICE, MODEL[0]),
        "out",
    ),
    "prepare": Verb(
        ("prepare", "--config", "folder.yaml"),
        ("folder.yaml", "sources/a/2.dcm", "labels.csv"),
        "folder_run",
    ),
    "train": Verb(
        ("train", "--config", "run.yaml"),
        (
            "run.yaml", "run/encoder/fold0/done.json", "run/encoder/fold0/embeddings.safetensors",
            "run/context/fold0/weights.safetensors",
        ),
        before=("run/stack", "run/model", "run/run.json"),
    ),
    "report": Verb(
        ("report", "--config", "run.yaml"), ("run.yaml", *OOF), before=("run/report.html",)
    ),
    "ablate": Verb(
        ("ablate", "--config", "rows.yaml"), ("rows.yaml",),
        before=("run/ablation_rows.csv", "run/ablation_rows.md", "run/ablation_rows.html"),
    ),
    "demo": Verb(("demo", "--config", "demo.yaml"), ("demo.yaml",), "demo_run"),
    "export": Verb(("export", "run/model", "--bundle", "out"), MODEL, "out"),
    "info": Verb(("info", "run/model"), MODEL),
    "card": Verb(("card", "run/model"), (*OOF, MODEL[0]), before=("run/MODEL_CARD.md",)),
    "evaluate": Verb(
        ("evaluate", "predictions", "--labels", "labels.csv", "-o", "out"),
        ("predictions/slices.csv", "labels.csv"),
        "out",
    ),
    "recalibrate": Verb(
        ("recalibrate", "run/model", "--predictions", "predictions", "--labels", "labels.csv",
        "-o", "out"),
        ("predictions/slices.csv", "labels.csv", *MODEL),
        "out",
    ),
}  # fmt: skip
TOO_LONG = {"demo"}
"""Trains all stages: its parts are those of `predict`, `train` and `report`."""

LEARNS_NOTHING = {"recalibrate"}
"""From four patients: it writes nothing, whatever the disk does."""


def test_every_command_takes_part() -> None:
    listed = re.findall(r"^    (\w+)(?: |$)", build_parser().format_help(), re.MULTILINE)
    assert {verb.words[0] for verb in VERBS.values()} == set(listed)


@pytest.fixture(scope="module")
def pristine(finished_run: Config) -> Iterator[Bench]:
    """The bench as every test finds it. It lies where other users may look into it."""
    root = Path(tempfile.mkdtemp(prefix="ich3d-faults-"))
    root.chmod(0o755)
    config = copy_run(finished_run, root / "run")
    bench = Bench(root, config)

    heads = {name: head_series(name) for name in "abcd"}
    write_series(heads["a"], root / "study")
    with zipfile.ZipFile(root / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "study").iterdir()):
            archive.write(path, path.name)
    for name, head in heads.items():
        write_series(head, root / "sources" / name)
    rows = [
        f"{uid}_{label},{int(number > 3)}"
        for head in heads.values()
        for number, uid in enumerate(head.sop_uids)
        for label in ("subdural", "any")
    ]
    (root / "labels.csv").write_text("\n".join(["ID,Label", *rows]) + "\n")
    write_ct_ich(root / "ct_ich")

    folder = SourceConfig(kind="folder", path="sources", labels="labels.csv")
    small = replace(config, workspace="folder_run", source=folder)
    in_bench = replace(config, workspace="run")
    ablation = AblationConfig(seeds=1)
    write_config(root / "run.yaml", in_bench)
    write_config(root / "rows.yaml", replace(in_bench, ablation=ablation))
    write_config(root / "folder.yaml", small)
    write_config(root / "demo.yaml", replace(in_bench, workspace="demo_run"))
    write_config(root / "phantom.yaml", {"phantom": {"matrix": 64, "thickness_mm": [10.0]}})
    yield bench
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def predicted(pristine: Bench) -> Bench:
    """The bench with predictions of the sources."""
    from ich3d.model.folder import load_model

    predict_to_folder(
        load_model(pristine.run.model), [pristine / "sources"], pristine / "predictions"
    )
    return pristine


@pytest.fixture
def bench(predicted: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A copy of the bench, which is the working folder."""
    root = Path(tempfile.mkdtemp(prefix="ich3d-fault-"))
    shutil.copytree(predicted.root, root, dirs_exist_ok=True)
    root.chmod(0o755)
    monkeypatch.chdir(root)
    yield Bench(root, replace(predicted.config, workspace=str(root / "run")))
    shutil.rmtree(root)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    logging.getLogger("ich3d").handlers.clear()


def start(verb: Verb, bench: Bench) -> None:
    """Remove what the command is to make."""
    for name in (*verb.before, verb.out) if verb.out else verb.before:
        path = bench / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def check_told(told: str, names: tuple[str, ...]) -> None:
    """What was printed names a path, and no exception."""
    assert any(name in told for name in names), told
    assert "Traceback" not in told
    for word in ("Error:", "Exception", "NULL", "enforce fail", "os error"):
        assert word not in told, told


def check_no_partial_file(bench: Bench) -> None:
    assert not [path for path in bench.root.rglob("*") if path.name.endswith(".partial")]


def check_ends_well(verb: Verb, call: Run) -> None:
    code, _, err = call(*verb.words)
    allowed = {OK}
    if verb.words[0] in ("train", "ablate", "report"):
        allowed = {OK, REJECTED}  # a series of the run shows no head
    assert code in allowed, err


@pytest.mark.parametrize("name", [name for name in VERBS if name not in TOO_LONG])
def test_a_command_survives_every_fault_and_ends_well_without_it(
    bench: Bench, call: Run, name: str
) -> None:
    verb = VERBS[name]
    for path in verb.inputs:
        start(verb, bench)
        check_cut_input(verb, bench, path, call)
    if verb.words[0] not in WRITES_NOTHING and name not in LEARNS_NOTHING:
        for n_bytes in (SMALL_BYTES, 6_000):
            start(verb, bench)
            check_full_disk(verb, bench, n_bytes, call)
        start(verb, bench)
        check_closed_folder(verb, bench, call)
    if verb.out is not None:
        start(verb, bench)
        check_file_in_the_place_of_the_output(verb, bench, call)
    check_ends_well(verb, call)


def check_cut_input(verb: Verb, bench: Bench, path: str, call: Run) -> None:
    """An input that is cut in the middle is named, and costs nothing else."""
    file = bench / path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 - 3])
    code, out, err = call(*verb.words)
    assert code in (FAILED, USAGE, REJECTED), out + err
    check_told(out + err, (path, file.name))
    check_no_partial_file(bench)
    file.write_bytes(whole)


@contextmanager
def small_files_only(n_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond `n_bytes`, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full_disk(verb: Verb, bench: Bench, n_bytes: int, call: Run) -> None:
    """A disk that is full is told; with `SMALL_BYTES` no output has room."""
    with small_files_only(n_bytes):
        code, out, err = call(*verb.words)
    if n_bytes == SMALL_BYTES or code not in (OK, REJECTED):
        assert code == FAILED, out + err
        check_told(err, ("File too large: make room there", "written whole: make room there"))
    check_no_partial_file(bench)


@contextmanager
def without_privileges() -> Iterator[None]:
    """This process as a user who may write nowhere in the bench."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def check_closed_folder(verb: Verb, bench: Bench, call: Run) -> None:
    """A folder that may not be written to is named."""
    folders = [bench.root, *(path for path in bench.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with without_privileges():
            code, out, err = call(*verb.words)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert code in (FAILED, USAGE), out + err
    check_told(err, ("change its permissions",))
    check_no_partial_file(bench)


def check_file_in_the_place_of_the_output(verb: Verb, bench: Bench, call: Run) -> None:
    """A file where the output folder should be is named and kept."""
    assert verb.out is not None
    (bench / verb.out).write_text("mine")
    code, _, err = call(*verb.words)
    assert code == USAGE
    check_told(err, (f"{verb.out} is a file where a folder is needed", "is no model folder"))
    assert (bench / verb.out).read_text() == "mine"
    (bench / verb.out).unlink()


def test_a_source_that_goes_away_costs_its_series_alone(bench: Bench) -> None:
    from ich3d.model.folder import load_model

    model, out = load_model(bench.run.model), bench / "gone"
    whole = predict_to_folder(model, [bench / "sources"], bench / "predictions")

    def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
        for item in items:
            if label == "series":
                shutil.rmtree(bench / "sources" / "d", ignore_errors=True)
            yield item

    outcome = predict_to_folder(model, [bench / "sources"], out, progress)
    assert outcome.scored + len({item.subject for item in outcome.rejected}) == whole.scored
    check_no_partial_file(bench)


def test_a_store_that_is_damaged_is_prepared_again(
    bench: Bench, call: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut, overwritten in the middle, or empty: the codec itself notices the cut alone."""
    words = ("prepare", "--config", "folder.yaml")
    assert call(*words)[0] == OK
    store = Store(bench / "folder_run" / "store")
    name = store.volume_ids[0]
    path = next((bench / "folder_run" / "store").glob(f"{name}*.b2nd"))
    whole, hu = path.read_bytes(), store.hu(name)
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 16])
        + whole[middle + 16 :],
        b"",
    ):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(Exception, match=rf"{name}.*run `ich3d prepare`"):
            Store(bench / "folder_run" / "store").hu(name)
        assert call(*words)[0] == OK
        assert (Store(bench / "folder_run" / "store").hu(name) == hu).all()


def test_a_cut_table_of_the_store_is_named(bench: Bench, call: Run) -> None:
    table = bench.run.store / "slices.csv"
    whole = table.read_text().splitlines(keepends=True)
    table.write_text("".join(whole[:-1]))  # a whole row is gone, which no reader of CSV notices
    with pytest.raises(Exception, match=r"slices\.csv is damaged or was changed: run `ich3d prep"):
        Store(bench.run.store)
