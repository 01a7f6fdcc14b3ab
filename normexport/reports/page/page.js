"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Norms by words and fate.
  function filterNorms() {
    const words = byId("norm-words"), fate = byId("norm-fate"), told = byId("norm-count");
    if (!words) return;
    const rows = [...document.querySelectorAll("#norm-table tbody tr")];
    const show = () => {
      const wanted = words.value.toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = (!fate.value || row.dataset.fate === fate.value) && row.textContent.toLowerCase().includes(wanted);
        row.hidden = !fits;
        shown += fits;
      }
      told.textContent = `${shown} of ${rows.length} norms`;
    };
    words.addEventListener("input", show);
    fate.addEventListener("input", show);
    show();
  }

  const FATES = { folded: ["✓ folded", "good"], lowered: ["◐ lowered", "unsure"], live: ["● live", "live"], kept: ["○ kept", "live"], out: ["✗ out of budget", "bad"] };
  const MOST_OPEN = 3000; // rows that "unfold all" leaves at most
  const LANE = 9, LANES = 10;

  function drawNetwork() {
    const home = byId("network");
    if (!home) return;
    const items = JSON.parse(byId("network-rows").textContent).map(
      ([name, kind, type, parent, sources, fate, facts, out], index) => ({ name, kind, type, parent, sources, fate, facts, out, index, inner: [], open: false, level: 1 }));
    for (const item of items) {
      if (item.parent < 0) continue;
      item.above = items[item.parent];
      item.level = item.above.level + 1;
      items[item.parent].inner.push(item);
    }
    for (const item of [...items].reverse()) {
      item.tally = {};
      if (item.fate) item.tally[item.fate] = 1;
      if (item.out) item.tally.out = 1;
      for (const inner of item.inner) {
        for (const [fate, number] of Object.entries(inner.tally)) item.tally[fate] = (item.tally[fate] || 0) + number;
      }
    }
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    const list = element("div");
    list.setAttribute("role", "tree");
    list.setAttribute("aria-label", "network, in order of execution");
    home.append(svg, list);

    let shown = [], current = 0, row = new Map();

    function visible() {
      const found = [];
      const pending = items.filter((item) => item.parent < 0).reverse();
      while (pending.length) {
        const item = pending.pop();
        found.push(item);
        if (item.open) for (let i = item.inner.length - 1; i >= 0; i--) pending.push(item.inner[i]);
      }
      return found;
    }

    function badge(fate, number) {
      const [word, tone] = FATES[fate] || [fate, "live"];
      return element("span", `fate ${tone}`, number === undefined ? word : word.replace(" ", ` ${number} `));
    }

    function makeRow(item) {
      const made = element("div", "row");
      made.setAttribute("role", "treeitem");
      made.setAttribute("aria-level", item.level);
      made.tabIndex = -1;
      if (item.inner.length) made.setAttribute("aria-expanded", item.open);
      const line = element("div", "line");
      line.append(element("span", "fold", item.inner.length ? (item.open ? "▾" : "▸") : ""), element("span", "name", item.name));
      if (item.type) line.append(element("span", "type", item.type));
      if (item.kind === "input" || item.kind === "output") line.append(element("span", "type", `(${item.kind})`));
      if (item.fate) line.append(badge(item.fate));
      if (item.out) line.append(badge("out"));
      if (!item.fate && !item.out && !item.open) for (const [fate, number] of Object.entries(item.tally)) line.append(badge(fate, number));
      made.append(line);
      if (item.told) made.append(more(item));
      made.item = item;
      return made;
    }

    function more(item) {
      const box = element("div", "more"), facts = element("dl", "facts");
      for (const [term, value] of item.facts) {
        facts.append(element("dt", "", term), element("dd", "", value));
      }
      if (!item.facts.length) facts.append(element("dt", "", "holds"), element("dd", "", `${item.inner.length} rows`));
      box.append(facts);
      return box;
    }

    function draw(focused, marked = focused) {
      shown = visible();
      row = new Map(shown.map((item, index) => [item, index]));
      list.replaceChildren(...shown.map(makeRow));
      current = row.has(marked) ? row.get(marked) : 0;
      if (list.children[current]) list.children[current].tabIndex = 0;
      if (focused !== undefined && list.children[current]) list.children[current].focus({ preventScroll: false });
      drawEdges();
      drawGraph();
    }

    // What reads what among the visible rows, a closed module standing for all that it holds: "from to" -> [from, to].
    function shownPairs() {
      const pairs = new Map();
      const standing = (item) => {
        let found = item;
        while (!row.has(found)) found = items[found.parent];
        return row.get(found);
      };
      for (const item of items) {
        const to = standing(item);
        for (const source of item.sources) {
          const from = standing(items[source]);
          if (from !== to && from !== undefined) pairs.set(`${from} ${to}`, [from, to]);
        }
      }
      return pairs;
    }

    // Arrows between visible rows; those that skip rows have lanes of their own, as many as overlap.
    function drawEdges() {
      const pairs = shownPairs();
      const filled = (index) => shown[index].open; // an open module's own row is a title
      const next = (index) => { let found = index + 1; while (found < shown.length && filled(found)) found++; return found; };
      const ends = [], drawn = [];
      const sorted = [...pairs.values()].sort((a, b) => Math.min(...a) - Math.min(...b) || Math.max(...a) - Math.max(...b));
      for (const [from, to] of sorted) {
        const low = Math.min(from, to), high = Math.max(from, to);
        if (from < to && next(from) === to) { drawn.push([from, to, 0]); continue; }
        let lane = ends.findIndex((end) => end <= low);
        if (lane < 0) lane = ends.length < LANES ? ends.push(0) - 1 : LANES - 1;
        ends[lane] = Math.max(ends[lane], high);
        drawn.push([from, to, lane + 1]);
      }
      const lanes = ends.length, spine = 10 + lanes * LANE;
      for (const each of list.children) {
        each.style.paddingLeft = `${spine + 10 + Math.min(each.item.level - 1, 8) * 12}px`;
      }
      const tops = [...list.children].map((each) => each.offsetTop + each.firstChild.offsetHeight / 2 + 2);
      svg.setAttribute("width", spine + 8);
      svg.setAttribute("height", list.offsetHeight);
      const parts = drawn.map(([from, to, lane]) => {
        const x = spine - lane * LANE, a = tops[from], b = tops[to], path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        const head = `M${spine - 3},${b - 7} L${spine},${b - 3} L${spine + 3},${b - 7}`;
        const turn = a < b ? 6 : -6;
        path.setAttribute("d", lane === 0 ? `M${spine},${a} L${spine},${b - 3} ${head}` :
          `M${spine},${a} Q${x},${a} ${x},${a + turn} L${x},${b - turn} Q${x},${b} ${spine - 3},${b} M${spine - 7},${b - 3} L${spine - 3},${b} L${spine - 7},${b + 3}`);
        return path;
      });
      for (const [index, top] of tops.entries()) {
        if (filled(index)) continue;
        const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
        dot.setAttribute("cx", spine);
        dot.setAttribute("cy", top);
        dot.setAttribute("r", 2.5);
        parts.push(dot);
      }
      svg.replaceChildren(...parts);
    }

    const graph = byId("graph"), told = byId("graph-told");

    // The other picture of the same rows, where it can be seen.
    function drawGraph() {
      if (!graph.offsetParent) return;
      showGraph(graph, shown, row, shownPairs().values(), { act: tellOfBox, words: boxWords, tone: boxTone, current: shown[current] });
    }

    function boxWords(item) {
      const fate = item.out ? FATES.out[0] : item.fate ? badge(item.fate).textContent : "";
      const held = item.inner.length && !item.open ? Object.entries(item.tally).map(([each, number]) => badge(each, number).textContent) : [];
      const type = item.kind === "input" || item.kind === "output" ? item.kind : item.type;
      return [type, fate, ...(fate ? [] : held)].filter(Boolean).join(" · ").slice(0, 44);
    }

    const boxTone = (item) => item.out || (!item.open && item.tally.out) ? "bad" : item.fate ? badge(item.fate).classList[1] : "plain";

    function tellOfBox(item) {
      const name = element("p");
      name.append(element("span", "name mono", item.name), element("span", "type quiet", item.type ? ` ${item.type}` : ""));
      told.replaceChildren(name, more(item));
      if (item.inner.length) item.open = !item.open;
      draw(undefined, item);
    }

    function markInGraph(item) {
      for (const box of graph.querySelectorAll(".box")) {
        const here = box.item === item;
        box.classList.toggle("current", here);
        if (here) graph.scrollTop = box.getBBox().y - graph.clientHeight / 2;
      }
    }

    function toggle(item, open) {
      if (!item.inner.length) return;
      item.open = open === undefined ? !item.open : open;
      draw(item);
    }

    function tell(item) {
      item.told = !item.told;
      draw(item);
    }

    function move(index) {
      if (!shown.length) return;
      const to = Math.max(0, Math.min(shown.length - 1, index));
      list.children[current].tabIndex = -1;
      current = to;
      list.children[to].tabIndex = 0;
      list.children[to].focus();
      markInGraph(shown[to]);
    }

    list.addEventListener("click", (event) => {
      const clicked = event.target.closest(".row");
      if (!clicked || event.target.closest(".more")) return;
      if (event.target.closest(".fold") && clicked.item.inner.length) toggle(clicked.item);
      else tell(clicked.item);
    });
    list.addEventListener("keydown", (event) => {
      const item = shown[current];
      const keys = {
        ArrowDown: () => move(current + 1),
        ArrowUp: () => move(current - 1),
        Home: () => move(0),
        End: () => move(shown.length - 1),
        ArrowRight: () => item.inner.length && !item.open ? toggle(item, true) : move(current + 1),
        ArrowLeft: () => item.open ? toggle(item, false) : item.parent >= 0 && move(row.get(items[item.parent])),
        Enter: () => tell(item),
        " ": () => item.inner.length ? toggle(item) : tell(item),
      };
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    byId("network-open").addEventListener("click", () => {
      let number = items.filter((item) => item.parent < 0).length;
      for (const item of items) { // those above come first
        number += item.inner.length;
        item.open = number <= MOST_OPEN && item.inner.length > 0;
      }
      draw();
    });
    byId("network-close").addEventListener("click", () => {
      for (const item of items) item.open = item.told = false;
      draw();
    });
    const asGraph = byId("network-graph");
    asGraph.addEventListener("click", () => {
      const pressed = byId("networks").classList.toggle("as-graph");
      asGraph.setAttribute("aria-pressed", pressed);
      draw();
    });
    addEventListener("resize", () => { drawEdges(); drawGraph(); });
    addEventListener("beforeprint", drawEdges);
    const roots = items.filter((item) => item.parent < 0);
    if (roots.length < 8) for (const item of roots) item.open = item.inner.length > 0 && item.inner.length <= 60;
    draw();
  }

  filterNorms();
  drawNetwork();
})();
