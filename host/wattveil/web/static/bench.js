// The bench page: items of the server's board (web/events.py) into the page, a little per frame.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const whole = Charts.whole;
  const wh = (value) => `${whole(value)}\u00a0Wh`;
  const ROWS = 12; // meter rows written per frame: 50 rows at once would hold up a slow machine
  const KINDS = { real: "●", emulated: "◐", simulated: "○", unknown: "?" };
  const STATES = { reported: "✔", prepared: "▣", preparing: "…", absent: "–", unplugged: "✖", registered: "✔" };
  const NAMES = ["Meter", "Kind", "State", "Last report", "Kernel", "Prepare, s", "Link", "Refusals"];

  // --- the token: from the link's fragment, which no server sees --------------------------------
  const found = /[#&]token=([\w-]+)/.exec(location.hash);
  let token = found ? found[1] : null;
  try {
    if (found) sessionStorage.setItem("wattveil-token", token);
    else token = sessionStorage.getItem("wattveil-token");
  } catch { /* storage is off */ }
  if (found) history.replaceState(null, "", location.pathname);
  document.addEventListener("htmx:config:request", (event) => {
    const request = event.detail.ctx.request;
    if (token && request.method === "POST") request.headers.Authorization = `Bearer ${token}`;
  });
  const unlock = async () => {
    if (!token || !$("locked")) return;
    const answer = await fetch("/do/hello", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    if (!answer.ok) { $("readonly").textContent = "Read-only: the link's token is of another run."; return; }
    $("locked").disabled = false;
    $("readonly").hidden = true;
  };

  // --- what has come in -------------------------------------------------------------------------
  const items = new Map();
  const changed = new Set();
  let paused = false;
  let asked = false;
  const take = (data, all) => {
    if (all) {
      for (const name of items.keys()) changed.add(name);
      items.clear();
    }
    for (const [name, value] of Object.entries(data)) {
      if (value === null) items.delete(name); else items.set(name, value);
      changed.add(name);
    }
    wake();
  };
  const wake = () => {
    if (asked || paused || !changed.size) return;
    asked = true;
    requestAnimationFrame(frame);
  };

  // One chart, or one of the other items and some rows, a frame.
  const frame = () => {
    asked = false;
    let rows = 0;
    let heavy = false;
    for (const name of [...changed]) {
      const group = name.split(":")[0];
      if (group === "m") {
        if (rows++ >= ROWS) continue;
        meter(name, items.get(name));
      } else if (group === "p" || group === "noise") {
        if (heavy) continue;
        heavy = true;
        if (group === "p") { for (const other of [...changed]) if (other.startsWith("p:")) changed.delete(other); }
        (group === "p" ? periods : noise)();
      } else SHOW[group]?.(items.get(name));
      changed.delete(name);
    }
    wake();
  };

  // --- meters -----------------------------------------------------------------------------------
  const rows = new Map();
  const body = document.querySelector("#meters tbody");
  const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
  const meter = (name, m) => {
    let row = rows.get(name);
    if (!m) {
      row?.tr.remove();
      row?.option?.remove();
      rows.delete(name);
      return;
    }
    if (!row) {
      const tr = document.createElement("tr");
      const cells = NAMES.map((label, i) => {
        const td = document.createElement("td");
        td.dataset.name = label;
        if (i === 5 || i === 7) td.className = "number";
        tr.append(td);
        return td;
      });
      const option = document.createElement("option");
      option.value = m.n;
      option.textContent = `${m.n}: ${m.id}`;
      $("meter")?.append(option);
      row = { tr, cells, option };
      rows.set(name, row);
      body.append(tr);
    }
    const values = [
      `${m.n}: ${m.id}`, `${KINDS[m.kind]} ${m.kind}`, `${STATES[m.state] ?? ""} ${m.state}`.trim(),
      m.report ?? "none", m.kernel || "–",
      m.prepare === null ? "–" : m.prepare.toFixed(m.prepare < 1 ? 3 : 1), m.link || "–", String(m.refused),
    ];
    values.forEach((value, i) => text(row.cells[i], value));
    row.cells[1].title = m.runtime;
    row.tr.className = m.state === "unplugged" ? "off" : "";
  };

  // --- periods ----------------------------------------------------------------------------------
  const totals = Charts.totals();
  const noises = Charts.noise();
  const table = document.querySelector("#periods tbody");
  const periods = () => {
    const list = [...items].filter(([name]) => name.startsWith("p:")).map(([, row]) => row)
      .sort((a, b) => (a.start < b.start ? -1 : 1));
    const data = [[], [], [], [], []];
    for (const p of list) {
      data[0].push(Date.parse(p.start) / 1000);
      const open = p.released_wh === null;
      data[1].push(open ? null : p.released_wh + p.band_wh);
      data[2].push(open ? null : p.released_wh - p.band_wh);
      data[3].push(p.released_wh);
      data[4].push(p.true_wh);
    }
    totals.draw(data);
    const last = list.at(-1);
    if (!last) { text($("total-text"), "No total released yet."); table.replaceChildren(); return; }
    const when = `${last.start.slice(11, 16)} UTC, ${last.reported} meters: `;
    text($("total-text"), when + (last.released_wh === null
      ? `no total, ${last.refused ?? "not opened yet"}`
      : `${wh(last.released_wh)} ± ${wh(last.band_wh)}`
        + (last.true_wh === null ? "" : ` (true: ${wh(last.true_wh)})`)));
    table.replaceChildren(...list.slice(-12).reverse().map((p) => {
      const tr = document.createElement("tr");
      const cells = [p.start.slice(0, 16).replace("T", " "), p.reported,
        p.released_wh === null ? (p.refused ?? "–") : whole(p.released_wh),
        p.band_wh === null ? "–" : whole(p.band_wh), p.true_wh === null ? "–" : whole(p.true_wh)];
      cells.forEach((value, i) => {
        const td = document.createElement("td");
        td.textContent = value;
        td.className = (i ? "number" : "") + (i === 4 ? " demo" : "");
        tr.append(td);
      });
      return tr;
    }));
    document.getElementById("who").dispatchEvent(new Event("wattveil:period"));
  };
  const noise = () => {
    const n = items.get("noise");
    if (!n) { noises.draw(null); text($("noise-text"), "One value a period."); return; }
    noises.draw([n.edges.slice(0, -1).map((edge, i) => (edge + n.edges[i + 1]) / 2), n.counts, n.expected]);
    const all = n.counts.reduce((a, b) => a + b, 0);
    text($("noise-text"), `${all} values, one a period; scale Δ/ε = ${wh(n.scale_wh)}.`);
  };

  // --- all else ---------------------------------------------------------------------------------
  const UTC = (time) => time.slice(0, 16).replace("T", " ");
  let shownFleet = 0;
  const SHOW = {
    clock(c) {
      if (!c) return;
      if (c.phase === "starting") {
        text($("when"), "a fleet is being made");
        text($("phase"), c.text + (c.total ? `: ${c.done} of ${c.total}` : c.done ? `: ${c.done}` : ""));
      } else {
        text($("when"), `${c.period ? `${c.period}: ` : ""}${UTC(c.start)}–${c.end.slice(11, 16)} UTC`);
        const words = { preparing: "meters prepare noise and blinding", reporting: "the period is over: meters report",
          running: `now ${c.now?.slice(11, 19)} UTC` };
        text($("phase"), `${words[c.phase]}: ${c.done} of ${c.total}`);
      }
      $("bar").max = c.total || 1;
      $("bar").value = c.total ? c.done : 0;
    },
    fleet(f) {
      if (!f) return;
      document.body.classList.toggle("attached", f.mode === "attached");
      text($("about"), `${f.meters} meters, a total needs ${f.quorum}; suite ${f.suite}, γ ${f.gamma}, ${f.bits}-bit key, `
        + `${f.noise} noise, ε ${f.epsilon} a period of ${f.period_s / 60} min, Δ ${wh(f.delta)}`
        + (f.mode === "demo" ? `; ${f.link} link, demo time` : ""));
      text($("level"), `${Math.round(100 * f.level)} %`);
      if ($("settings") && f.fleet !== shownFleet) {
        for (const name of ["suite", "gamma", "epsilon", "meters", "budget"]) $("settings").elements[name].value = f[name];
      }
      shownFleet = f.fleet;
    },
    epsilon(e) {
      text($("spent-text"), e ? `ε spent on ${e.day}: ${+e.today.toFixed(3)}`
        + (e.day_limit ? ` of ${+e.day_limit.toFixed(3)} a day` : ", no limit a day") : "No ε spent yet");
      $("spent").max = e?.day_limit || Math.max(e?.today || 0, 1);
      $("spent").value = e?.today || 0;
      text($("spent-more"), e ? `since the fleet began: ${+e.ever.toFixed(3)}`
        + (e.stopped ? "; the fleet is stopped" : "") : "");
    },
    cipher(c) {
      const say = (id, value) => text($(id), value);
      if (!c) { for (const id of ["e-cloud", "e-center", "e-thief", "e-true"]) say(id, "–"); return; }
      say("eyes-of", `${c.id}, the period from ${c.start.slice(11, 16)} UTC`);
      say("e-cloud", `${c.cipher} (${c.bytes} bytes${c.slots ? `, and ${c.slots} slots like it` : ""})`);
      const total = items.get(`p:${c.start}`)?.released_wh;
      say("e-center", total === undefined || total === null ? "nothing of this meter"
        : `nothing of this meter; of all: ${wh(total)}`);
      say("e-thief", c.thief);
      say("e-true", c.reading_wh === null ? "no reading" : wh(c.reading_wh));
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      for (const place of c.places) {
        const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
        const at = `${100 * place}%`;
        for (const [name, value] of [["x1", at], ["x2", at], ["y1", "10%"], ["y2", "100%"]]) line.setAttribute(name, value);
        svg.append(line);
      }
      $("strip").replaceChildren(svg);
    },
    roles(list) {
      $("roles").replaceChildren(...(list ?? []).map((role) => {
        const div = document.createElement("div");
        div.id = `role-${role.name}`;
        div.className = role.up ? "" : "down";
        const name = document.createElement("strong");
        name.textContent = role.name === "center" ? "centre" : role.name;
        const refused = Object.entries(role.refused).map(([reason, n]) => `${reason} ${n}`).join(", ");
        div.append(name, ` ${role.up ? "✔ up" : "✖ down"}`, role.name === "broker" ? "" : `; refused: ${refused || "nothing"}`);
        return div;
      }));
    },
    events(list) {
      $("events").replaceChildren(...(list ?? []).map((line) => {
        const li = document.createElement("li");
        li.textContent = line;
        return li;
      }));
    },
  };

  // --- the connection ---------------------------------------------------------------------------
  const connect = () => {
    const source = new EventSource("/events");
    source.addEventListener("all", (event) => take(JSON.parse(event.data), true));
    source.addEventListener("some", (event) => take(JSON.parse(event.data), false));
    source.addEventListener("open", () => text($("link"), "✔ live"));
    source.addEventListener("error", () => {
      text($("link"), "✖ not connected");
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
  };
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", paused);
    text($("pause"), paused ? "Go on" : "Pause");
    wake();
  });
  unlock();
  connect();
})();
