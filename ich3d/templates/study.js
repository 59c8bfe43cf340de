"use strict";
// All text comes from the page. The script changes the selected slice, the window and the heat map.

function setUpSeries(section) {
  // From report/study/page.py: lists have an entry for each slice, inferior to superior.
  const data = JSON.parse(section.querySelector("script").textContent);
  const all = (selector) => [...section.querySelectorAll(selector)];
  const view = section.querySelector(".view");
  const strip = section.querySelector(".strip");
  const toggle = section.querySelector(".toggle");
  const tiles = all(".strip .picture");
  const windows = all("[data-window-name]");
  let selected = data.start;

  function select(index) {
    selected = Math.min(Math.max(index, 0), tiles.length - 1);
    section.dataset.slice = selected;
    tiles.forEach((tile, number) => tile.setAttribute("aria-selected", number === selected));
    strip.setAttribute("aria-activedescendant", tiles[selected].id);
    showImage();
    showNumbers();
    scrollToTile(tiles[selected]);
  }

  function showImage() {
    const heat = data.heat[selected];
    view.style.backgroundPosition = data.positions[selected];
    view.setAttribute("aria-label", `${data.descriptions[selected]}, ${section.dataset.window} window`);
    view.querySelector(".heat").className = heat ? `heat heat-${selected}` : "heat";
    section.querySelector(".description").textContent = data.descriptions[selected];
    section.querySelector(".uid").textContent = data.uids[selected];
    section.querySelector(".heat-note").textContent = heat
      ? `Heat map: signs of ${heat}`
      : "There is no heat map of this slice";
  }

  function showNumbers() {
    for (const cell of all("[data-stage]")) {
      cell.textContent = data.prob[cell.dataset.stage][selected][cell.dataset.label].toFixed(3);
    }
    for (const bar of all(".bar .current")) {
      bar.style.width = `${100 * data.prob.stack[selected][bar.dataset.label]}%`;
    }
    for (const line of all("line.current")) {
      line.setAttribute("x1", data.x[selected]);
      line.setAttribute("x2", data.x[selected]);
    }
  }

  function scrollToTile(tile) {
    const top = tile.offsetTop - strip.scrollTop;
    if (top < 0 || top + tile.offsetHeight > strip.clientHeight) {
      strip.scrollTop = tile.offsetTop - strip.clientHeight / 2;
    }
  }

  function setWindow(name) {
    section.dataset.window = name;
    windows.forEach((button) =>
      button.setAttribute("aria-pressed", button.dataset.windowName === name));
    showImage();
  }

  function setHeat(state) {
    section.dataset.heat = state;
    toggle.setAttribute("aria-pressed", state === "on");
  }

  function selectNearest(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    const distances = data.x.map((position) => Math.abs(position - x));
    select(distances.indexOf(Math.min(...distances)));
  }

  tiles.forEach((tile, index) => tile.addEventListener("click", () => select(index)));
  windows.forEach((button) =>
    button.addEventListener("click", () => setWindow(button.dataset.windowName)));
  toggle.addEventListener("click", () => setHeat(section.dataset.heat === "on" ? "off" : "on"));
  for (const button of all("[data-to]")) {
    button.addEventListener("click", () => {
      setHeat("on");
      select(Number(button.dataset.to));
      view.scrollIntoView({ block: "center" });
    });
  }
  for (const plot of all(".panel svg")) {
    plot.addEventListener("pointerdown", selectNearest);
    plot.addEventListener("pointermove", (event) => event.buttons && selectNearest(event));
  }
  strip.addEventListener("keydown", (event) => {
    const targets = { ArrowUp: selected + 1, ArrowDown: selected - 1, Home: 0, End: tiles.length - 1 };
    const target = targets[event.key];
    if (target !== undefined) {
      event.preventDefault();
      select(target);
    }
  });

  select(selected);
  return {
    section,
    step: (by) => select(selected + by),
    chooseWindow: (number) => windows[number - 1] && setWindow(windows[number - 1].dataset.windowName),
    toggleHeat: () => toggle.click(),
  };
}

// Keys that are pressed anywhere on the page go to the series that was used last.
const allSeries = [...document.querySelectorAll(".series")].map(setUpSeries);
let current = allSeries[0];
for (const type of ["focusin", "pointerdown"]) {
  document.addEventListener(type, (event) => {
    current = allSeries.find((series) => series.section.contains(event.target)) || current;
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "ArrowRight") current.step(1);
  else if (event.key === "ArrowLeft") current.step(-1);
  else if (event.key === "h") current.toggleHeat();
  else if (/^[1-9]$/.test(event.key)) current.chooseWindow(Number(event.key));
  else return;
  event.preventDefault();
});
