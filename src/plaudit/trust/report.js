// Draws every figure of the page in the page's own colours, and again when the reader switches between light and dark.
(function () {
  "use strict";
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function dressed(layout) {
    const ink = colour("--ink"), grid = colour("--rule");
    const copy = Object.assign({}, layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: grid, font: { color: ink } },
    });
    for (const key of Object.keys(copy)) {
      if (/^[xy]axis\d*$/.test(key)) {
        copy[key] = Object.assign({ gridcolor: grid, zerolinecolor: grid, linecolor: grid }, copy[key]);
      }
    }
    return copy;
  }

  function draw() {
    for (const box of document.querySelectorAll("[data-figure]")) {
      const figure = JSON.parse(document.getElementById(box.dataset.figure).textContent);
      Plotly.react(box, figure.data, dressed(figure.layout), { displayModeBar: false, responsive: true });
    }
  }

  draw();
  scheme.addEventListener("change", draw);
})();
