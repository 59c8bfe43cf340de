"""Make the pictures of the documentation: notebooks with their outputs, pages, the site itself.

    python scripts/docs_pictures.py [notebooks | pages | site]

`notebooks` runs all notebooks, on phantoms, into docs/notebooks. `pages` photographs a study page
and a run's report with a browser (chromium); the run is that of the notebooks, runs/demo. `site`
photographs the built site. Without a word it makes all.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs" / "pictures"
NOTEBOOK_PAGES: Final = ROOT / "docs" / "notebooks"


def main() -> None:
    """Make what is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    makers = {"notebooks": _run_notebooks, "pages": _photograph_pages, "site": _photograph_site}
    parser.add_argument("what", nargs="?", choices=makers, help="default: all of them")
    what = parser.parse_args().what
    PICTURES.mkdir(exist_ok=True)
    for name, make in makers.items():
        if what in (None, name):
            make()


def _run_notebooks() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        _run_notebook(path)


def _run_notebook(path: Path) -> None:
    """Run a notebook, and write its page."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    pictures = NOTEBOOK_PAGES / path.stem
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    page = notebook_page(notebook, path.name, pictures)
    (NOTEBOOK_PAGES / f"{path.stem}.md").write_text(page, encoding="utf-8")


def notebook_page(notebook: Any, name: str, pictures: Path) -> str:
    """An executed notebook as a page of Markdown; its pictures are written to a folder."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```py\n{cell.source}\n```")
        for output in cell.outputs:
            parts.append(_output(output, pictures))
    title, _, rest = "\n\n".join(part for part in parts if part).partition("\n")
    return f"{title}\n\n*This page is `notebooks/{name}`, as it ran on phantoms.*\n{rest}\n"


def _output(output: Any, pictures: Path) -> str:
    """An output as Markdown: a picture, a table, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        number = len(list(pictures.iterdir())) + 1
        path = pictures / f"{number}.png"
        path.write_bytes(base64.b64decode(data["image/png"]))
        return f"![Output]({pictures.name}/{path.name})"
    if "text/markdown" in data:
        return str(data["text/markdown"])
    if "text/html" in data:  # a table of pandas; Markdown ends at an empty line in it
        lines = data["text/html"].splitlines()
        table = "\n".join(line.strip() for line in lines)
        return table[table.index("<table") : table.index("</table>") + len("</table>")]
    if output.output_type == "stream" and output.name != "stdout":
        return ""  # progress
    text = data.get("text/plain", output.get("text", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def _photograph_pages() -> None:
    from ich3d.config.load import load_config
    from ich3d.config.schema import PhantomConfig
    from ich3d.crossfit.train import train
    from ich3d.inference.run import predict_to_folder
    from ich3d.model.folder import load_model
    from ich3d.phantom import write_phantoms
    from ich3d.report.run.page import write_report
    from ich3d.report.study.page import page_writer

    config = load_config(ROOT / "configs/demo.yaml", [f"workspace={ROOT / 'runs/demo'}"])
    workspace = train(config)
    _photograph(write_report(config).page, PICTURES / "run_report.png", height=1500)

    model = load_model(workspace.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bleeding = PhantomConfig(studies=1, matrix=256, prevalence={"intraparenchymal": 1.0})
        list(write_phantoms(bleeding, 11, folder / "phantom"))
        out = folder / "out"
        writer = page_writer(model, folder / "report", identifiers=False)
        predict_to_folder(model, folder / "phantom", out, writers={"report": writer})
        (page,) = (path for path in (folder / "report").glob("*.html") if path.stem != "index")
        _photograph(page, PICTURES / "study_light.png")
        _photograph(page, PICTURES / "study_dark.png", dark=True)
        _photograph(page, PICTURES / "study_narrow.png", width=420, height=1500)


def _photograph_site() -> None:
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", name]
        subprocess.run(
            command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        )
        for page in ("index", "hospital", "api"):
            _photograph(Path(name) / f"{page}.html", PICTURES / f"site_{page}.png", width=1280)


def _photograph(
    page: Path, picture: Path, width: int = 1000, height: int = 900, dark: bool = False
) -> None:
    """A picture of a page in a window of this size, in 256 colours."""
    from PIL import Image

    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        sys.exit("chromium is not installed: it makes the pictures")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--window-size={width},{height}", "--virtual-time-budget=5000", f"--screenshot={picture}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        page.absolute().as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    main()
