"use strict";
(() => {
  const models = JSON.parse(document.getElementById("models").textContent || "{}");
  const byId = (id) => document.getElementById(id);

  // ---- structure viewer: 3Dmol.js where WebGL works, the still picture otherwise
  const box = byId("viewer");
  const state = { viewer: null, shown: box ? box.dataset.candidate : null, cells: 1, spin: false };

  const hasWebGL = () => {
    try {
      const canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch {
      return false;
    }
  };

  const cartesian = (lattice, f) => [0, 1, 2].map((k) => f[0] * lattice[0][k] + f[1] * lattice[1][k] + f[2] * lattice[2][k]);

  // Sites of n x n x n cells; what lies on a face is repeated on the opposite one.
  const xyz = (model, n) => {
    const atoms = [];
    const near = 0.02;
    for (const [symbol, ...raw] of model.sites) {
      const base = raw.map((x) => (x > 1 - near ? x - 1 : x));
      const steps = base.map((x) => Array.from({ length: n + (Math.abs(x) < near ? 1 : 0) }, (_, i) => i));
      for (const i of steps[0]) for (const j of steps[1]) for (const k of steps[2]) {
        const at = cartesian(model.lattice, [base[0] + i, base[1] + j, base[2] + k]);
        atoms.push(`${symbol} ${at.map((x) => x.toFixed(4)).join(" ")}`);
      }
    }
    return `${atoms.length}\n\n${atoms.join("\n")}\n`;
  };

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const draw = () => {
    const model = models[state.shown];
    if (!state.viewer || !model) return;
    const v = state.viewer;
    v.clear();
    v.addModel(xyz(model, state.cells), "xyz");
    for (const [symbol, rgb] of Object.entries(model.colors))
      v.setStyle({ elem: symbol }, { sphere: { scale: 0.32, color: rgb }, stick: { radius: 0.11, color: rgb } });
    const point = (f) => { const [x, y, z] = cartesian(model.lattice, f); return { x, y, z }; };
    for (let a = 0; a < 8; a += 1)
      for (const bit of [1, 2, 4])
        if (!(a & bit)) {
          const at = (m) => point([m & 1, (m >> 1) & 1, (m >> 2) & 1]);
          v.addLine({ start: at(a), end: at(a | bit), color: color("--muted"), linewidth: 2 });
        }
    v.setBackgroundColor(color("--bg"));
    v.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    v.zoomTo();
    v.rotate(-90, "vx");
    v.rotate(-22, "vy");
    v.rotate(14, "vx");
    v.zoom(state.cells === 1 ? 1.05 : 0.95);
    v.render();
  };

  const symbolOf = (candidate) => {
    const symbol = document.querySelector(`tr[data-candidate="${CSS.escape(candidate)}"] .sg`);
    return symbol ? symbol.cloneNode(true) : "";
  };

  const describe = () => {
    const model = models[state.shown];
    if (!model || !box) return;
    const name = byId("viewer-name");
    const make = (tag, text, css) => { const e = document.createElement(tag); e.textContent = text; if (css) e.className = css; return e; };
    name.replaceChildren(make("b", model.formula), " ", symbolOf(state.shown), " ", make("span", state.shown, "muted"));
    byId("viewer-elements").replaceChildren(...Object.entries(model.colors).map(([symbol, rgb]) => {
      const item = make("span", "");
      const swatch = make("span", "", "swatch");
      swatch.style.background = rgb;
      item.append(swatch, symbol);
      return item;
    }));
    for (const card of document.querySelectorAll(".crystal")) card.classList.toggle("shown", card.dataset.show === state.shown);
  };

  const still = () => {
    const picture = document.querySelector(`.crystal[data-show="${CSS.escape(state.shown)}"] .thumb svg`);
    const place = box.querySelector(".viewer-still");
    if (picture && place) place.replaceChildren(picture.cloneNode(true));
  };

  const show = (candidate, scroll) => {
    if (!models[candidate] || !box) return;
    state.shown = candidate;
    describe();
    if (state.viewer) draw(); else still();
    if (scroll) byId("hits").scrollIntoView();
  };

  if (box) {
    describe();
    const note = byId("viewer-note");
    if (typeof $3Dmol !== "undefined" && hasWebGL()) {
      const picture = box.querySelector(".viewer-still");
      try {
        state.viewer = $3Dmol.createViewer(box, { backgroundColor: color("--bg"), antialias: true });
        if (!state.viewer) throw new Error("no viewer");
        picture.remove();
        draw();
        byId("viewer-buttons").hidden = false;
        note.textContent = "Conventional cell, drag to turn, scroll to zoom. The CIF holds the cell as relaxed.";
      } catch (error) {
        state.viewer = null;
        box.replaceChildren(picture);
        note.textContent = `A still picture of the conventional cell: the viewer could not start (${error.message}).`;
      }
    } else {
      note.textContent = "A still picture of the conventional cell: this browser shows no WebGL.";
    }
    byId("viewer-buttons").addEventListener("click", (event) => {
      const action = event.target.dataset.action;
      if (action === "spin") { state.spin = !state.spin; state.viewer.spin(state.spin ? "y" : false); event.target.setAttribute("aria-pressed", state.spin); }
      if (action === "cells") { state.cells = state.cells === 1 ? 2 : 1; event.target.setAttribute("aria-pressed", state.cells === 2); draw(); }
      if (action === "reset") draw();
    });
    for (const card of document.querySelectorAll("[data-show]")) {
      card.addEventListener("click", (event) => { if (!event.target.closest("a")) show(card.dataset.show, card.tagName === "BUTTON"); });
      card.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === card) show(card.dataset.show, false); });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  // ---- the table of verdicts: sorting and filtering, provenance rows travel with their verdict
  const table = byId("verdict-table");
  if (table) {
    const body = table.tBodies[0];
    for (const button of body.querySelectorAll("[data-origin]")) {
      const more = button.closest("tr").nextElementSibling;
      more.dataset.folded = "";
      more.hidden = true;
      button.addEventListener("click", () => {
        if (more.hidden) delete more.dataset.folded; else more.dataset.folded = "";
        more.hidden = !more.hidden;
        button.setAttribute("aria-expanded", !more.hidden);
      });
    }
    const pairs = () => [...body.querySelectorAll("tr:not(.more)")].map((row) => [row, row.nextElementSibling]);
    const value = (row, column) => {
      const cell = row.cells[column];
      const text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
      return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
    };
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if ("nosort" in head.dataset) return;
      head.setAttribute("aria-sort", "none");
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sorted = pairs().sort(([a], [b]) => {
          const x = value(a, column), y = value(b, column);
          if (x === "" || y === "") return (x === "") - (y === ""); // the unknown comes last, both ways
          return (down ? -1 : 1) * compare(x, y);
        });
        body.append(...sorted.flat());
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
    const search = byId("filter");
    const plain = (text) => text.toLowerCase().replace(/[₀-₉]/g, (c) => String(c.charCodeAt(0) - 0x2080));
    const filter = () => {
      const kinds = new Set([...document.querySelectorAll(".filter [data-kind]:checked")].map((c) => c.dataset.kind));
      const wanted = plain(search.value).split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, more] of pairs()) {
        const on = kinds.has(row.dataset.kind) && wanted.every((w) => plain(row.textContent).includes(w));
        row.hidden = !on;
        more.hidden = !on || "folded" in more.dataset;
        count += on;
      }
      byId("filter-count").textContent = `${count} shown`;
    };
    search.closest(".filter").hidden = false;
    search.closest(".filter").addEventListener("input", filter);
  }
})();
