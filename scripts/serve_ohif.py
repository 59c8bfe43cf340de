"""Serve the OHIF viewer and DICOM files to a browser on this computer.

    npm pack @ohif/app@3.13.2 && tar xzf ohif-app-3.13.2.tgz
    python scripts/serve_ohif.py package/dist study out/dicom

The files are offered by DICOMweb (PS3.18), as far as OHIF asks for it; all of them are kept in
memory. Needs pydicom alone.
"""

import json
import sys
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset

PORT: Final = 8042
_KEYWORDS: Final = (
    "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "StudyDate", "StudyTime", "Modality",
    "SeriesDescription", "SeriesNumber",
)  # fmt: skip
_CONFIG: Final = b"""window.config = {
  routerBasename: "/", extensions: [], modes: [], showStudyList: true,
  investigationalUseDialog: { option: "never" }, defaultDataSourceName: "files",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "files",
    configuration: {
      friendlyName: "files", imageRendering: "wadors", thumbnailRendering: "wadors",
      qidoRoot: location.origin + "/dicomweb", wadoRoot: location.origin + "/dicomweb",
      enableStudyLazyLoad: true, omitQuotationForMultipartRequest: true,
    },
  }],
};"""

Answers = dict[str, tuple[str, bytes]]
"""Content type and body by path."""


def answers(folders: Iterable[Path]) -> Answers:
    """What a DICOMweb server with the files `*.dcm` below some folders answers."""
    tables: dict[str, dict[str, Any]] = {}  # of each path, the rows by their UID
    parts: Answers = {"/app-config.js": ("text/javascript", _CONFIG)}

    for path in sorted(file for folder in folders for file in folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        study = f"/dicomweb/studies/{dataset.StudyInstanceUID}"
        series = f"{study}/series/{dataset.SeriesInstanceUID}"
        instance = f"{series}/instances/{dataset.SOPInstanceUID}"
        parts[instance] = _part("application/dicom", path.read_bytes())
        if "PixelData" in dataset:
            if dataset.file_meta.TransferSyntaxUID.is_compressed:
                dataset.decompress()
            size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
            for frame in range(int(dataset.get("NumberOfFrames", 1))):
                pixels = dataset.PixelData[frame * size : (frame + 1) * size]
                parts[f"{instance}/frames/{frame + 1}"] = _part("application/octet-stream", pixels)

        row = Dataset({e.tag: e for e in dataset if e.keyword in _KEYWORDS}).to_json_dict()
        header = Dataset({e.tag: e for e in dataset if "PixelData" not in e.keyword})
        tables.setdefault("/dicomweb/studies", {})[study] = row
        tables.setdefault(f"{study}/series", {})[series] = row
        tables.setdefault(f"{series}/metadata", {})[instance] = header.to_json_dict()

    kind = "application/dicom+json"
    return parts | {
        path: (kind, json.dumps(list(rows.values())).encode()) for path, rows in tables.items()
    }


def _part(kind: str, body: bytes) -> tuple[str, bytes]:
    """An answer of one part, as DICOMweb sends objects and frames."""
    start = f"--part\r\nContent-Type: {kind}\r\n\r\n".encode()
    return f'multipart/related; type="{kind}"; boundary=part', start + body + b"\r\n--part--\r\n"


class Handler(SimpleHTTPRequestHandler):
    """Sends an answer, a file of OHIF, or OHIF's start page for addresses such as /viewer."""

    def __init__(self, *args: Any, answers: Answers, **kwargs: Any) -> None:
        self.answers = answers
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path not in self.answers:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/"
            super().do_GET()
            return

        kind, body = self.answers[path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def server(dist: Path, folders: Iterable[Path], port: int = PORT) -> ThreadingHTTPServer:
    """A server for this computer only; `dist` is that folder of the npm package @ohif/app."""
    handler = partial(Handler, answers=answers(folders), directory=str(dist))
    return ThreadingHTTPServer(("localhost", port), handler)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    dist, *folders = map(Path, sys.argv[1:])
    with server(dist, folders) as running:
        sys.stdout.write(f"open http://localhost:{PORT} in a browser; Ctrl+C ends\n")
        sys.stdout.flush()
        running.serve_forever()
