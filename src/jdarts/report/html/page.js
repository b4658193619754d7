"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const views = {};

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const ramp = dark.matches ? ["#20242a", "#1d5c88", "#7cc6f4"] : ["#f4f8fb", "#7db8dc", "#08518c"];
    const axis = { labelColor: of("--soft"), titleColor: of("--soft"), gridColor: of("--line"), domainColor: of("--line"), tickColor: of("--line") };
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: axis,
      legend: { labelColor: of("--text"), titleColor: of("--soft"), labelLimit: 220, symbolOpacity: 1 },
      rect: { stroke: of("--text") },
      range: {
        category: dark.matches
          ? ["#6cbcf0", "#f2a069", "#55cfa8", "#d79fcb", "#e8d45a", "#b9bdc3"]
          : ["#0072b2", "#d55e00", "#009e73", "#8a4f7d", "#a68000", "#444444"],
        ramp: ramp,
        heatmap: ramp,
      },
    };
  }

  async function draw() {
    if (!window.vegaEmbed) return;
    const config = theme();
    for (const [id, spec] of Object.entries(content.charts)) {
      const place = document.getElementById(id);
      const found = await vegaEmbed(place, spec, { actions: false, renderer: "svg", config });
      views[id] = found.view;
    }
    show();
  }

  const slider = document.getElementById("epoch");
  function show() {
    if (!slider) return;
    const index = Number(slider.value);
    document.getElementById("epoch-name").textContent = "epoch " + content.epochs[index];
    for (const [kind, cell] of Object.entries(content.cells)) {
      const drawing = document.getElementById("drawing-" + kind);
      if (drawing) drawing.innerHTML = cell.drawings[cell.drawing[index]];
      const view = views["heat-" + kind];
      if (!view || !cell.weights[index]) continue;
      const chosen = new Set(cell.chosen[index]);
      const rows = cell.places.map(([edge, operation], place) => ({
        e: cell.edges[edge], o: cell.operations[operation], w: cell.weights[index][place], k: chosen.has(place) ? "yes" : "no",
      }));
      view.data("cells", rows).runAsync();
    }
    try { sessionStorage.setItem("epoch", index === content.epochs.length - 1 ? "last" : String(index)); } catch (error) { /* a page without storage */ }
  }

  if (slider) {
    try {
      const before = sessionStorage.getItem("epoch");
      if (content.live && before !== null && before !== "last") slider.value = before;
    } catch (error) { /* a page without storage */ }
    slider.addEventListener("input", show);
    const button = document.getElementById("play");
    let playing = null;
    const stop = () => { clearInterval(playing); playing = null; button.textContent = "Play"; };
    button.addEventListener("click", () => {
      if (playing !== null) return stop();
      if (slider.value === slider.max) slider.value = 0;
      button.textContent = "Stop";
      playing = setInterval(() => {
        if (slider.value === slider.max) return stop();
        slider.value = Number(slider.value) + 1;
        show();
      }, Math.max(120, 8000 / content.epochs.length));
    });
    show();
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(() => { button.textContent = "Copied"; });
    });
  }

  for (const header of document.querySelectorAll("th[data-sort]")) {
    header.addEventListener("keydown", (event) => { if (event.key === "Enter") header.click(); });
    header.addEventListener("click", () => {
      const body = header.closest("table").tBodies[0];
      const column = header.cellIndex;
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if ((x === "") !== (y === "")) return x === "" ? 1 : -1;
        const difference = x !== "" && !isNaN(x) && !isNaN(y) ? Number(x) - Number(y) : x.localeCompare(y);
        return up ? difference : -difference;
      };
      for (const row of [...body.rows].sort(order)) body.append(row);
    });
  }

  dark.addEventListener("change", draw);
  draw();
  if (content.live) setTimeout(() => location.reload(), 1000 * content.live);
})();
