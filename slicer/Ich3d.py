"""3D Slicer module: score a head CT with `ich3d predict` and lay scores and heat over the series.

Add the folder of this file to Slicer's additional module paths (Edit, Application Settings,
Modules). It needs a command `ich3d` outside of Slicer, with `ich3d[dicom]`. Research software, not
a medical device.

The functions of the first part know nothing of Slicer; without Slicer only they exist.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

LABELS = (
    "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any",
)  # fmt: skip
FINISHED = (0, 3)
"""Exit codes of `ich3d predict`: finished, and finished with something rejected."""


@dataclass(frozen=True)
class SliceScores:
    """A row of slices.csv: the stack's probability of each label in one slice."""

    volume_id: str
    sop_uid: str
    frame: int | None
    slice_index: int
    z_mm: float
    prob: dict[str, float]


@dataclass(frozen=True)
class Heat:
    """A heat map: `values` float32 (Z, rows, columns), 0..1, and where its pixels lie.

    `ijk_to_ras` (4, 4) leads from column, row and slice to Slicer's coordinates in mm.
    """

    volume_id: str
    label: str
    values: np.ndarray
    ijk_to_ras: np.ndarray


def build_command(program: str, source: Path, out: Path, model: str = "") -> list[str]:
    """The command that scores the DICOM files in `source`; by the starter model without `model`."""
    command = [program, "predict", str(source), "-o", str(out), "--dicom-heat", "--overwrite"]
    return [*command, "--model", model] if model else command


def copy_files(files: Iterable[str], folder: Path) -> int:
    """Copy DICOM files to `folder`, named by their number: names may repeat. Returns how many."""
    count = 0
    for count, file in enumerate(dict.fromkeys(files), 1):
        shutil.copyfile(file, folder / f"{count:05d}.dcm")
    return count


def read_slices(out: Path) -> list[SliceScores]:
    """The scored slices of `out`, inferior to superior in each volume, without dropped ones."""
    with (out / "slices.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["stack_any"]]
    return [
        SliceScores(
            volume_id=row["volume_id"],
            sop_uid=row["sop_uid"],
            frame=int(float(row["frame"])) if row["frame"] else None,
            slice_index=int(float(row["slice_index"])),
            z_mm=float(row["z_mm"]),
            prob={label: float(row[f"stack_{label}"]) for label in LABELS},
        )
        for row in rows
    ]


def leading_volume(slices: Sequence[SliceScores]) -> str:
    """The volume_id with the highest probability of any hemorrhage."""
    return strongest_slice(slices, "any").volume_id


def strongest_slice(slices: Sequence[SliceScores], label: str) -> SliceScores:
    """The slice that is likeliest to show `label`; ValueError where there is none."""
    if not slices:
        raise ValueError("no slice was scored")
    return max(slices, key=lambda scores: scores.prob[label])


def run_summary(out: Path) -> str:
    """What was scored, by which model, and what was rejected and why, in a few lines."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    lines = [
        f"{run['series']} series with {run['slices']} slices, scored by model "
        f"{run['model_sha256'][:12]} of ich3d {run['ich3d']}"
    ]
    for name in ("failures.csv", "incomplete.csv"):
        with (out / name).open(newline="", encoding="utf-8") as rows:
            lines += [f"{name}: {row['code']}: {row['detail']}" for row in csv.DictReader(rows)]
    return "\n".join(lines)


def find_slice(files: Iterable[Path], sop_uid: str) -> pydicom.Dataset | None:
    """The header of the file whose SOPInstanceUID is `sop_uid`."""
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if header.get("SOPInstanceUID") == sop_uid:
            return header
    return None


def slice_center_ras(header: pydicom.Dataset, frame: int | None = None) -> np.ndarray:
    """The middle of a slice (3,) in Slicer's coordinates, in mm; `frame` counts from 1."""
    position, directions, spacing = _plane(header, frame)
    half = np.array(((header.Columns - 1) * spacing[1], (header.Rows - 1) * spacing[0])) / 2
    return lps_to_ras(position + half @ directions)


def lps_to_ras(point_mm: np.ndarray) -> np.ndarray:
    """A point (3,) of DICOM's patient coordinates in those of Slicer."""
    return np.asarray(point_mm) * (-1.0, -1.0, 1.0)


def read_heat(path: Path) -> Heat:
    """A Parametric Map that `ich3d predict --dicom-heat` wrote; frames inferior to superior."""
    dataset = pydicom.dcmread(path)
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    values = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(shape)

    planes = [_plane(dataset, frame) for frame in range(1, len(values) + 1)]
    _, (row_dir, col_dir), (between_rows, between_columns) = planes[0]
    positions_mm = np.array([position for position, _, _ in planes])  # (Z, 3)
    normal = np.cross(row_dir, col_dir)
    order = np.argsort(positions_mm @ (normal if normal[2] > 0 else -normal))
    first_mm, last_mm = positions_mm[order[0]], positions_mm[order[-1]]
    step_mm = (last_mm - first_mm) / (len(order) - 1) if len(order) > 1 else normal

    to_lps = np.eye(4)
    to_lps[:3] = np.column_stack(
        (row_dir * between_columns, col_dir * between_rows, step_mm, first_mm)
    )
    (mapping,) = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    return Heat(
        volume_id=path.name.split(".heat.")[0],
        label=str(mapping.LUTLabel),
        values=values[order],
        ijk_to_ras=np.diag((-1.0, -1.0, 1.0, 1.0)) @ to_lps,
    )


def _plane(
    header: pydicom.Dataset, frame: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Position (3,), directions of rows and columns (2, 3), and pixel spacing, in LPS mm."""
    groups = [header]
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = [
            header.PerFrameFunctionalGroupsSequence[(frame or 1) - 1],
            header.SharedFunctionalGroupsSequence[0],
        ]

    def value(sequence: str, keyword: str) -> np.ndarray:
        for group in groups:
            item = group[sequence].value[0] if sequence in group else group
            if keyword in item:
                return np.array([float(number) for number in item[keyword].value])
        raise ValueError(f"{keyword} is missing")

    spacing = value("PixelMeasuresSequence", "PixelSpacing")
    return (
        value("PlanePositionSequence", "ImagePositionPatient"),
        value("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3),
        (float(spacing[0]), float(spacing[1])),
    )


try:
    import ctk
    import qt
    import vtk
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
    )

    import slicer
except ImportError:  # outside of Slicer
    pass
else:

    class Ich3d(ScriptedLoadableModule):  # type: ignore[misc]
        """What Slicer shows of the module in its list."""

        def __init__(self, parent: Any) -> None:
            super().__init__(parent)
            parent.title = "ich3d: intracranial hemorrhage"
            parent.categories = ["Quantification"]
            parent.contributors = ["The ich3d developers"]
            parent.helpText = "Scores each slice of a head CT. Research software only."

    class Ich3dWidget(ScriptedLoadableModuleWidget):  # type: ignore[misc]
        """The panel: what to score, and the scores."""

        def setup(self) -> None:
            super().setup()
            self.files: list[Path] = []
            self.slices: list[SliceScores] = []
            form = qt.QFormLayout()
            self.layout.addLayout(form)

            self.volume = slicer.qMRMLNodeComboBox()
            self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
            self.volume.noneEnabled = True
            self.volume.setMRMLScene(slicer.mrmlScene)
            form.addRow("Loaded CT", self.volume)
            self.folder = ctk.ctkPathLineEdit()
            self.folder.filters = ctk.ctkPathLineEdit.Dirs
            form.addRow("or DICOM folder", self.folder)
            self.program = qt.QLineEdit(slicer.util.settingsValue("Ich3d/program", "ich3d"))
            form.addRow("Command ich3d", self.program)
            self.model = qt.QLineEdit()
            self.model.placeholderText = "the starter model"
            form.addRow("Model folder", self.model)
            self.button = qt.QPushButton("Predict")
            self.button.clicked.connect(self.predict)
            form.addRow(self.button)

            self.label = qt.QComboBox()
            self.label.addItems(["any", *LABELS[:-1]])
            self.label.currentTextChanged.connect(lambda _: self.jump_to_strongest())
            form.addRow("Label", self.label)
            self.table = qt.QTableWidget()
            self.table.itemSelectionChanged.connect(self.jump_to_selected)
            self.layout.addWidget(self.table)
            self.text = qt.QPlainTextEdit()
            self.text.readOnly = True
            self.layout.addWidget(self.text)

        def predict(self) -> None:
            """Start the command; Slicer stays usable until it ends."""
            self.work = Path(tempfile.mkdtemp(prefix="ich3d_"))
            source = Path(self.folder.currentPath)
            node = self.volume.currentNode()
            if node is not None:
                uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
                source = self.work / "in"
                source.mkdir()
                found = (slicer.dicomDatabase.fileForInstance(uid) for uid in uids)
                if not copy_files(filter(None, found), source):
                    slicer.util.errorDisplay("This volume has no DICOM files: choose their folder.")
                    return
            elif not self.folder.currentPath:
                slicer.util.errorDisplay("Choose a loaded CT or a DICOM folder.")
                return

            qt.QSettings().setValue("Ich3d/program", self.program.text)
            self.files = [path for path in source.rglob("*") if path.is_file()]
            command = build_command(
                self.program.text, source, self.work / "out", self.model.text.strip()
            )
            try:
                # With the environment from before Slicer's start, so that it finds its own Python.
                self.process = slicer.util.launchConsoleProcess(command)
            except OSError as error:
                slicer.util.errorDisplay(f"{self.program.text} does not start: {error.strerror}")
                return
            self.button.enabled = False
            self.timer = qt.QTimer()
            self.timer.timeout.connect(self.look_whether_it_ended)
            self.timer.start(500)

        def look_whether_it_ended(self) -> None:
            """Show the results once the command has ended."""
            if self.process.poll() is None:
                return
            self.timer.stop()
            self.button.enabled = True
            if self.process.returncode not in FINISHED:
                self.text.plainText = self.process.stdout.read()
                return
            out = self.work / "out"
            self.text.plainText = run_summary(out)
            scored = read_slices(out)
            if not scored:
                return
            volume_id = leading_volume(scored)
            self.slices = [scores for scores in scored if scores.volume_id == volume_id]
            self.show_table()
            self.show_plot()
            self.show_heat(out, volume_id)
            self.jump_to_strongest()

        def show_table(self) -> None:
            """A row for each slice, the lowest first."""
            self.table.setRowCount(len(self.slices))
            self.table.setColumnCount(1 + len(LABELS))
            self.table.setHorizontalHeaderLabels(["z mm", *LABELS])
            for row, scores in enumerate(self.slices):
                texts = [f"{scores.z_mm:.1f}", *(f"{scores.prob[k]:.3f}" for k in LABELS)]
                for column, text in enumerate(texts):
                    self.table.setItem(row, column, qt.QTableWidgetItem(text))

        def show_plot(self) -> None:
            """A curve for each label along the head."""
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "ich3d scores")
            columns = [np.array([scores.z_mm for scores in self.slices])]
            columns += [np.array([scores.prob[k] for scores in self.slices]) for k in LABELS]
            slicer.util.updateTableFromArray(node, columns, ["z mm", *LABELS])
            chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "ich3d")
            for label in LABELS:
                series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", label)
                series.SetAndObserveTableNodeID(node.GetID())
                series.SetXColumnName("z mm")
                series.SetYColumnName(label)
                series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
                series.SetUniqueColor()
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
            slicer.modules.plots.logic().ShowChartInLayout(chart)

        def show_heat(self, out: Path, volume_id: str) -> None:
            """The heat maps as volumes, that of the strongest label in the foreground."""
            for path in sorted((out / "dicom").glob(f"{volume_id}.heat.*.dcm")):
                heat = read_heat(path)
                node = slicer.mrmlScene.AddNewNodeByClass(
                    "vtkMRMLScalarVolumeNode", f"ich3d heat {heat.label}"
                )
                slicer.util.updateVolumeFromArray(node, heat.values)
                matrix = vtk.vtkMatrix4x4()
                for row in range(4):
                    for column in range(4):
                        matrix.SetElement(row, column, heat.ijk_to_ras[row, column])
                node.SetIJKToRASMatrix(matrix)
                node.CreateDefaultDisplayNodes()
                display = node.GetDisplayNode()
                display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileInferno.txt")
                display.AutoWindowLevelOff()
                display.SetWindowLevelMinMax(0.0, 1.0)
                display.SetLowerThreshold(0.05)
                display.ApplyThresholdOn()
                slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=0.4)

        def jump_to_strongest(self) -> None:
            """Select the slice that is likeliest to show the chosen label."""
            if self.slices:
                strongest = strongest_slice(self.slices, self.label.currentText)
                self.table.selectRow(self.slices.index(strongest))

        def jump_to_selected(self) -> None:
            """Show the slice of the selected row in all views."""
            scores = self.slices[self.table.currentRow()]
            header = find_slice(self.files, scores.sop_uid)
            if header is not None:
                center = slice_center_ras(header, scores.frame)
                slicer.modules.markups.logic().JumpSlicesToLocation(*center.tolist(), True)
