// The visible rows as a picture: boxes placed by dagre, open modules as frames around what they hold.
const showGraph = (() => {
  const MOST = 500; // boxes; dagre takes a second for as many
  const LONGEST = 30; // letters of a box
  const SVG = "http://www.w3.org/2000/svg";

  function svgElement(tag, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // The end of a long name tells more than its start.
  const short = (name) => name.length <= LONGEST ? name : `…${name.slice(1 - LONGEST)}`;

  function laidOut(shown, place, pairs, words) {
    const graph = new dagre.graphlib.Graph({ compound: true });
    graph.setGraph({ rankdir: "TB", nodesep: 16, ranksep: 24, marginx: 10, marginy: 10 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const [index, item] of shown.entries()) {
      const letters = Math.max(short(item.name).length, words(item).length, 4);
      graph.setNode(`${index}`, item.open ? {} : { width: 7.4 * letters + 20, height: words(item) ? 40 : 26 });
      if (place.has(item.above)) graph.setParent(`${index}`, `${place.get(item.above)}`);
    }
    for (const [from, to] of pairs) graph.setEdge(`${from}`, `${to}`);
    dagre.layout(graph);
    return graph;
  }

  function arrow(points) {
    const [first, ...others] = points, last = others[others.length - 1];
    const middles = others.slice(0, -1).map((point, index) => {
      const next = others[index + 1];
      return `Q${point.x},${point.y} ${(point.x + next.x) / 2},${(point.y + next.y) / 2}`;
    });
    return `M${first.x},${first.y} ${middles.join(" ")} L${last.x},${last.y}`;
  }

  function headOf(points) {
    const end = points[points.length - 1], before = points[points.length - 2];
    const length = Math.hypot(end.x - before.x, end.y - before.y) || 1;
    const x = (end.x - before.x) / length, y = (end.y - before.y) / length;
    return `M${end.x},${end.y} L${end.x - 7 * x + 3.5 * y},${end.y - 7 * y - 3.5 * x} L${end.x - 7 * x - 3.5 * y},${end.y - 7 * y + 3.5 * x} z`;
  }

  // `act(item)` is what a click does; `words(item)` stands below a name, `tone(item)` is a class.
  return (home, shown, place, pairs, { act, words, tone, current }) => {
    if (shown.length > MOST) {
      home.replaceChildren(Object.assign(document.createElement("p"), {
        className: "quiet", textContent: `${shown.length} rows are too many for a picture: fold modules.` }));
      return;
    }
    let graph;
    try {
      graph = laidOut(shown, place, pairs, words);
    } catch (error) { // a library's: the rows say the same
      home.replaceChildren(Object.assign(document.createElement("p"), {
        className: "quiet", textContent: "There is no picture of these rows." }));
      return;
    }
    const { width, height } = graph.graph();
    const svg = svgElement("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "network as a graph" });
    const titles = []; // of frames: arrows run through these, and must not hide what they are called
    const boxes = shown.map((item, index) => {
      const { x, y, width: w, height: h } = graph.node(`${index}`);
      const group = svgElement("g", { class: `box ${item.open ? "frame" : ""} ${tone(item)}`, tabindex: 0, role: "button",
        "aria-label": [item.name, words(item)].filter(Boolean).join(", ") });
      if (item.inner.length) group.setAttribute("aria-expanded", item.open);
      if (item === current) group.classList.add("current");
      group.append(svgElement("rect", { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: item.inner.length && !item.open ? 2 : 8 }));
      if (item.open) {
        const title = svgElement("text", { class: "title of-frame", x: x - w / 2 + 6, y: y - h / 2 + 13 }, `▾ ${short(item.name)}`);
        title.addEventListener("click", () => act(item));
        titles.push(title);
      } else {
        const mark = item.inner.length ? "▸ " : "";
        group.append(svgElement("text", { class: "title", x, y: y + (words(item) ? -3 : 4), "text-anchor": "middle" }, mark + short(item.name)));
        if (words(item)) group.append(svgElement("text", { x, y: y + 13, "text-anchor": "middle" }, words(item)));
      }
      group.addEventListener("click", (event) => { event.stopPropagation(); act(item); });
      group.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        act(item);
      });
      group.item = item;
      return group;
    });
    // Frames lie behind all else, outer ones first.
    svg.append(...boxes.filter((box) => box.item.open));
    for (const edge of graph.edges()) {
      const { points } = graph.edge(edge);
      svg.append(svgElement("path", { d: arrow(points) }), svgElement("path", { class: "head", d: headOf(points) }));
    }
    svg.append(...boxes.filter((box) => !box.item.open), ...titles);
    const focused = home.contains(document.activeElement) && document.activeElement.item;
    home.replaceChildren(svg);
    home.scrollLeft = (width - home.clientWidth) / 2;
    const again = focused && boxes.find((box) => box.item === focused);
    if (again) again.focus({ preventScroll: true });
  };
})();
