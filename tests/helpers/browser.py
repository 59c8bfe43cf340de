"""A headless browser that opens a study page, and a script that uses the page as a reader would."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

# Presses keys and clicks, and after each step writes what the page shows to `<pre id="steps">`.
READER_SCRIPT = """
<pre id="steps"></pre>
<script>
const steps = {};
const press = (key, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const look = (number = 1) => {
  const section = document.getElementById(`series${number}`);
  const view = section.querySelector(".view");
  const strip = section.querySelector(".strip");
  return {
    slice: section.dataset.slice,
    description: section.querySelector(".description").textContent,
    label: view.getAttribute("aria-label"),
    position: getComputedStyle(view).backgroundPosition,
    image: getComputedStyle(view).backgroundImage.slice(0, 400),
    heat: getComputedStyle(view.querySelector(".heat")).display,
    heatNote: section.querySelector(".heat-note").textContent,
    uid: section.querySelector(".uid").textContent,
    x: Number(section.querySelector("line.current").getAttribute("x1")),
    any: section.querySelector("[data-stage=stack][data-label='5']").textContent,
    selected: [...strip.querySelectorAll("[aria-selected=true]")].map((tile) => tile.id),
    active: strip.getAttribute("aria-activedescendant"),
    pressed: [...section.querySelectorAll("[aria-pressed=true]")].map(
      (button) => button.textContent.trim()),
  };
};
const strips = document.querySelectorAll(".strip");
steps.start = look();
press("ArrowRight"); steps.up = look();
press("ArrowLeft"); press("ArrowLeft"); steps.down = look();
press("4"); steps.bone = look();
press("h"); steps.heat = look();
press("9"); steps.nine = look();
strips[0].focus(); press("Home", strips[0]); press("ArrowLeft"); steps.lowest = look();
press("End", strips[0]); press("ArrowRight"); steps.highest = look();
document.querySelector("[data-to='4']").click(); steps.shown = look();
strips[1].focus(); press("ArrowRight"); steps.second = [look(1).slice, look(2).slice];
strips[1].querySelectorAll("li")[6].click(); steps.clicked = look(2).slice;
steps.controls = [...document.querySelectorAll("button, [tabindex]")].map((control) => {
  control.focus();
  const style = getComputedStyle(control);
  return {
    name: control.getAttribute("aria-label") || control.textContent.trim(),
    reached: document.activeElement === control && control.tabIndex === 0,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
  };
});
document.getElementById("steps").textContent = JSON.stringify(steps);
</script>
"""


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open `page` in a headless browser with a fresh profile; it must write nothing to its console.

    Skips the test where no Chromium is installed.
    """
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    process = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", *options,
            page.as_uri(),
        ],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "CONSOLE" not in process.stderr
    return process
