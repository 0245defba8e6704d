// Draws the charts of pieces that htmx brings in, and tells the page when something was done.
"use strict";
(() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (extra) => ({
    stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui", ...extra,
  });
  const draw = (box) => {
    const data = JSON.parse(box.dataset.chart);
    box.replaceChildren();
    const line = { stroke: color("--main"), width: 2, points: { show: data[0].length < 100, size: 5 } };
    const edge = { stroke: "transparent", points: { show: false } };
    const banded = data.length === 4; // time, low, high, value
    new uPlot({
      width: box.clientWidth, height: box.clientHeight, legend: { show: false },
      cursor: { show: false }, padding: [8, 24, 0, 0],
      tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "Etc/UTC"),
      axes: [axis({ size: 56, values: banded ? "{HH}:{mm}\n{MM}-{DD}" : "{MM}-{DD}\n{YYYY}" }), axis({ size: 76, label: "Wh", labelSize: 16, labelFont: "12px system-ui",
        values: (u, values) => values.map((v) => v.toLocaleString("en")) })],
      bands: banded ? [{ series: [2, 1], fill: color("--band") }] : [],
      series: banded ? [{}, edge, edge, line] : [{}, line],
    }, data, box);
    box.dataset.drawn = "yes";
  };
  const all = (root) => root.querySelectorAll("[data-chart]").forEach(draw);
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) {
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      if (node.matches("[data-chart]")) draw(node); else all(node);
      if (node.matches("[data-answered]") || node.querySelector("[data-answered]"))
        document.body.dispatchEvent(new CustomEvent("wattveil:answered"));
    }
  }).observe(document.querySelector("main"), { childList: true, subtree: true });
  document.addEventListener("wattveil:theme", () => all(document));
  addEventListener("resize", () => all(document));
})();
