// The two charts, drawn by uPlot in the theme's colours.
"use strict";
const Charts = (() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const whole = (value) => Math.round(value).toLocaleString("en").replace("-", "\u2212");
  const kilo = (u, values) => values.map((v) => v.toLocaleString("en"));
  const axis = (extra) => ({
    stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui", ...extra,
  });

  class Chart {
    // options: (width, height) -> uPlot's; drawn again, whole, when theme or size change
    constructor(id, options) {
      this.box = document.getElementById(id);
      this.options = options;
      this.data = null;
      this.plot = null;
      this.width = 0;
      new ResizeObserver(() => { if (this.box.clientWidth !== this.width) this.renew(); }).observe(this.box);
      document.addEventListener("wattveil:theme", () => this.renew());
    }
    renew() {
      this.plot?.destroy();
      this.plot = null;
      this.draw(this.data);
    }
    draw(data) {
      this.data = data;
      this.width = this.box.clientWidth;
      if (!data || !data[0].length || !this.width) { this.plot?.destroy(); this.plot = null; return; }
      if (this.plot) this.plot.setData(data);
      else this.plot = new uPlot(this.options(this.width, this.box.clientHeight), data, this.box);
    }
  }

  const common = (width, height) => ({
    width, height, legend: { show: false }, cursor: { show: false }, padding: [8, 24, 0, 0],
  });

  const totals = () => new Chart("totals-chart", (width, height) => ({
    ...common(width, height),
    tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "Etc/UTC"),
    scales: { x: { time: true } },
    axes: [
      axis({ values: "{HH}:{mm}" }),
      axis({ size: 70, values: kilo, label: "Wh", labelSize: 16, labelFont: "12px system-ui" }),
    ],
    bands: [{ series: [1, 2], fill: color("--band") }],
    series: [
      {},
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: color("--main"), width: 2, points: { show: true, size: 5 } },
      { stroke: color("--truth"), width: 2, dash: [6, 4], points: { show: false } },
    ],
  }));

  const noise = () => new Chart("noise-chart", (width, height) => ({
    ...common(width, height),
    scales: { x: { time: false }, y: { range: (u, low, high) => [0, Math.max(4, high * 1.1)] } },
    axes: [
      axis({ label: "noise, in scales Δ/ε (the outer bars are open)", labelSize: 18, labelFont: "12px system-ui" }),
      axis({ size: 40, label: "periods", labelSize: 16, labelFont: "12px system-ui" }),
    ],
    series: [
      {},
      { fill: color("--band"), stroke: color("--main"), width: 1, points: { show: false },
        paths: uPlot.paths.bars({ size: [1, 100], align: 0 }) },
      { stroke: color("--law"), width: 3, points: { show: false } },
    ],
  }));

  return { totals, noise, whole };
})();
