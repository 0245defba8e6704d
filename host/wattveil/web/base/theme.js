// Light, dark, or as the system has it; read before the page is drawn, so that nothing flashes.
"use strict";
(() => {
  const names = ["system", "light", "dark"];
  const root = document.documentElement;
  let name = "system";
  try { name = localStorage.getItem("wattveil-theme") || name; } catch { /* storage is off */ }
  const set = (next) => {
    name = names.includes(next) ? next : "system";
    if (name === "system") delete root.dataset.theme; else root.dataset.theme = name;
    const label = document.querySelector("#theme b");
    if (label) label.textContent = name;
    document.dispatchEvent(new Event("wattveil:theme"));
  };
  set(name);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => set(name));
  document.addEventListener("DOMContentLoaded", () => {
    set(name);
    document.querySelector("#theme").addEventListener("click", () => {
      set(names[(names.indexOf(name) + 1) % names.length]);
      try { localStorage.setItem("wattveil-theme", name); } catch { /* storage is off */ }
    });
  });
})();
