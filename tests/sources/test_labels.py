"""The label table: what it accepts, and the message for what it rejects."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.sources.labels import read_labels


def write_table(path: Path, *rows: str, header: str = "ID,Label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def six_rows(sop_uid: str, positive: str) -> list[str]:
    """The rows of one slice, of which one subtype is 1, and `any` with it."""
    return [f"{sop_uid}_{label},{int(label in (positive, 'any'))}" for label in LABELS]


def test_slices_may_be_named_by_a_uid_or_as_rsna_does(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "l.csv", *six_rows("1.2.840.1", "subdural"), *six_rows("ID_00a", "epidural")
    )
    labels = read_labels(path)
    assert list(labels.columns) == list(LABELS)
    assert labels.index.name == "sop_uid"
    assert set(labels.dtypes) == {np.dtype("float32")}
    assert labels.loc["1.2.840.1", "subdural"] == 1
    assert labels.loc["ID_00a", "epidural"] == 1
    assert labels.to_numpy().sum() == 4


def test_only_a_missing_row_is_nan(tmp_path: Path) -> None:
    labels = read_labels(write_table(tmp_path / "l.csv", *six_rows("a", "subdural")[1:]))
    assert labels.isna().to_numpy().tolist() == [[True, False, False, False, False, False]]


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    labels = read_labels(
        write_table(tmp_path / "l.csv", *six_rows("a", "subdural"), "a_any,1", "a_epidural,0")
    )
    assert labels.shape == (1, len(LABELS))


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    labels = read_labels(write_table(tmp_path / "l.csv", "x,a_any,1.0", header="site,ID,Label"))
    assert labels.loc["a", "any"] == 1


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,1"], "ID,Value", "a label table has the columns ID,Label with rows such as"),
        (["1,a"], "any,slice", "has the columns any; a label table has"),
        ([], "ID,Label", "has no row"),
        (["a,1", ",0"], "ID,any", "row 3 names no slice"),
        (["a,2"], "SOPInstanceUID,any", "the value of a, any must be 0 or 1"),
        (["a,1", "a,0"], "SOPInstanceUID,any", "a is labelled both"),
        (["a_subdurall,1"], "ID,Label", "did you mean 'subdural'"),
        (["a_any,1", ",0"], "ID,Label", "ends in no label"),
        (["_any,1"], "ID,Label", "no slice"),
        (["a_any,0.5"], "ID,Label", "a_any must be 0 or 1"),
        (["a_any,yes"], "ID,Label", "a_any must be 0 or 1"),
        (["a_any,"], "ID,Label", "a_any must be 0 or 1"),
        (["a_any,1", "a_epidural,0", "a_any,0"], "ID,Label", "a_any is labelled both"),
    ],
)
def test_an_invalid_row_is_named_with_its_file(
    tmp_path: Path, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_labels(write_table(tmp_path / "l.csv", *rows, header=header))
    assert "l.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ID;Label\na_any;1\na_subdural;1\nb_any;0\n",
        "id,LABEL\na_Any,1\na_SUBDURAL,1\nb_ANY,0\n",
        "\ufeffID,Label\na_any,1\na_subdural,1\nb_any,0\n",
        "SOPInstanceUID,any,subdural\na,1,1\nb,0,\n",
        "sop_uid;Subdural;Any\na;1;1\nb;;0\n",
        "ID\tany\tsubdural\tsite\na\t1\t1\tx\nb\t0\t\ty\n",
    ],
)
def test_every_usual_form_of_a_table_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(text, encoding="utf-8")
    labels = read_labels(path)
    assert labels.index.tolist() == ["a", "b"]
    assert labels["any"].tolist() == [1, 0]
    assert labels["subdural"].fillna(-1).tolist() == [1, -1]
    assert labels["epidural"].isna().all()


def test_any_that_contradicts_its_subtypes_is_counted_or_mended(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "l.csv",
        "a,0,0,0,0,1,0",  # any misses a subtype
        "b,0,0,0,0,0,1",  # no subtype explains any
        "c,0,0,0,0,,1",  # one may
        "d,0,0,0,0,1,1",
        header="SOPInstanceUID," + ",".join(LABELS),
    )
    with pytest.raises(
        DataError, match=r"0 beside a subtype of 1 in 1 slice, .* 0 in 1, such as a"
    ):
        read_labels(path)
    mended = read_labels(path, repair=True)
    assert mended["any"].tolist() == [1, 1, 1, 1]
    assert mended.isna().loc[["b", "c"]].to_numpy().tolist() == [
        [True, True, True, True, True, False],
        [False, False, False, False, True, False],
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x81,\x9d", b'ID,Label\n"a_any,1\n'])
def test_a_file_that_is_no_table_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"l\.csv"):
        read_labels(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no label table .*l\.csv"):
        read_labels(tmp_path / "l.csv")


@given(order=st.permutations(range(3 * len(LABELS))), twice=st.lists(st.integers(0, 17)))
def test_row_order_and_repeats_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], twice: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("laws")
    rows = [row for uid, label in zip("abc", LABELS, strict=False) for row in six_rows(uid, label)]
    in_order = read_labels(write_table(folder / "in_order.csv", *rows))
    shuffled = read_labels(
        write_table(folder / "shuffled.csv", *(rows[i] for i in [*order, *twice]))
    )
    pd.testing.assert_frame_equal(shuffled.sort_index(), in_order)
