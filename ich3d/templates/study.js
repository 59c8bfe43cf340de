"use strict";
// Every word that is shown comes from the page; the script moves between slices and windows.
function setUp(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const find = (what) => [...section.querySelectorAll(what)];
  const [view] = find(".view");
  const [strip] = find(".strip");
  const [toggle] = find(".toggle");
  const tiles = find(".strip .picture");
  const windows = find("[data-shows]");
  let chosen = data.start;

  function choose(index) {
    chosen = Math.min(Math.max(index, 0), tiles.length - 1);
    section.dataset.slice = chosen;
    tiles.forEach((tile, number) => tile.setAttribute("aria-selected", number === chosen));
    strip.setAttribute("aria-activedescendant", tiles[chosen].id);
    view.style.backgroundPosition = data.place[chosen];
    view.setAttribute("aria-label", `${data.said[chosen]}, ${section.dataset.window} window`);
    const heat = data.heat[chosen];
    view.querySelector(".heat").className = heat ? `heat heat-${chosen}` : "heat";
    find(".said")[0].textContent = data.said[chosen];
    find(".uid")[0].textContent = data.uid[chosen];
    find(".of-heat")[0].textContent = heat ? `Heat: signs of ${heat}` : "Heat: none was made of this slice";
    for (const cell of find("[data-stage]")) {
      cell.textContent = data.prob[cell.dataset.stage][chosen][cell.dataset.label].toFixed(3);
    }
    for (const bar of find(".bar .here")) {
      bar.style.width = `${100 * data.prob.stack[chosen][bar.dataset.label]}%`;
    }
    for (const line of find("line.here")) {
      line.setAttribute("x1", data.x[chosen]);
      line.setAttribute("x2", data.x[chosen]);
    }
    keepInSight(tiles[chosen]);
  }

  function keepInSight(tile) {
    const above = tile.offsetTop - strip.scrollTop;
    if (above < 0 || above + tile.offsetHeight > strip.clientHeight) {
      strip.scrollTop = tile.offsetTop - strip.clientHeight / 2;
    }
  }

  function show(name) {
    section.dataset.window = name;
    windows.forEach((button) => button.setAttribute("aria-pressed", button.dataset.shows === name));
    choose(chosen);
  }

  function heat(state) {
    section.dataset.heat = state;
    toggle.setAttribute("aria-pressed", state === "on");
  }

  function nearest(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const at = (100 * (event.clientX - box.left)) / box.width;
    const away = data.x.map((x) => Math.abs(x - at));
    choose(away.indexOf(Math.min(...away)));
  }

  tiles.forEach((tile, index) => tile.addEventListener("click", () => choose(index)));
  windows.forEach((button) => button.addEventListener("click", () => show(button.dataset.shows)));
  toggle.addEventListener("click", () => heat(section.dataset.heat === "on" ? "off" : "on"));
  for (const button of find("[data-to]")) {
    button.addEventListener("click", () => {
      heat("on");
      choose(Number(button.dataset.to));
      view.scrollIntoView({ block: "center" });
    });
  }
  for (const panel of find(".panel svg")) {
    panel.addEventListener("pointerdown", nearest);
    panel.addEventListener("pointermove", (event) => event.buttons && nearest(event));
  }
  strip.addEventListener("keydown", (event) => {
    const to = { ArrowUp: chosen + 1, ArrowDown: chosen - 1, Home: 0, End: tiles.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      choose(to);
    }
  });
  choose(chosen);
  return {
    section,
    step: (by) => choose(chosen + by),
    show: (number) => windows[number - 1] && show(windows[number - 1].dataset.shows),
    flip: () => toggle.click(),
  };
}

const series = [...document.querySelectorAll(".series")].map(setUp);
let current = series[0];
for (const kind of ["focusin", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    current = series.find((one) => one.section.contains(event.target)) || current;
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "ArrowRight") current.step(1);
  else if (event.key === "ArrowLeft") current.step(-1);
  else if (event.key === "h") current.flip();
  else if (/^[1-9]$/.test(event.key)) current.show(Number(event.key));
  else return;
  event.preventDefault();
});
