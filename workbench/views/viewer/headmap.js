views.headmap = async (block) => {
  const data = await dataOf(block);
  const [layers, heads] = data.shape, [w, h] = data.cell, [x0, y0] = data.margin;
  const map = block.querySelector(".map"), svg = map.querySelector("svg"), readout = block.querySelector(".readout");
  const behind = block.querySelector(".behind"), ring = svg.querySelector(".chosen");
  map.classList.add("sized");
  map.style.setProperty("--w", svg.style.maxWidth);
  const ranked = data.scores.map((score, i) => [score, i]).filter(([score]) => score !== null).sort((a, b) => b[0] - a[0]);
  const rank = new Map(ranked.map(([, i], place) => [i, place + 1]));
  let chosen = ranked.length ? ranked[0][1] : 0;

  const describe = (i) => {
    const layer = Math.floor(i / heads), head = i % heads;
    const score = interval(data.scores[i], data.low?.[i], data.high?.[i]);
    const where = rank.has(i) ? `rank ${rank.get(i)} of ${ranked.length}` : "not scored";
    const group = data.kv && data.kv !== heads ? `, key-value head ${Math.floor(head * data.kv / heads)}` : "";
    readout.replaceChildren(`L${layer}H${head}: ${data.unit} ${score} `, el("small", {}, where + group));
  };
  const choose = (i) => {
    chosen = i;
    const layer = Math.floor(i / heads), head = i % heads;
    ring.setAttribute("d", `M${x0 + head * w - 1} ${y0 + layer * h - 1}h${w + 1}v${h + 1}h-${w + 1}z`);
    map.dataset.chosen = `${layer}.${head}`;
    describe(i);
    behind.replaceChildren(...details(data, layer, head), ...samples(data, i));
  };
  const cellAt = (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const head = Math.floor(((event.clientX - box.left) * scale - x0) / w);
    const layer = Math.floor(((event.clientY - box.top) * scale - y0) / h);
    return head >= 0 && head < heads && layer >= 0 && layer < layers ? layer * heads + head : null;
  };
  svg.addEventListener("pointermove", (event) => { const i = cellAt(event); describe(i ?? chosen); });
  svg.addEventListener("pointerleave", () => describe(chosen));
  svg.addEventListener("click", (event) => { const i = cellAt(event); if (i !== null) announce(block, Math.floor(i / heads), i % heads); });
  map.addEventListener("keydown", (event) => {
    const layer = Math.floor(chosen / heads), head = chosen % heads;
    const to = {
      ArrowLeft: [layer, head - 1], ArrowRight: [layer, head + 1], ArrowUp: [layer - 1, head], ArrowDown: [layer + 1, head],
      Home: [layer, 0], End: [layer, heads - 1], "[": [layer - 1, head], "]": [layer + 1, head],
    }[event.key];
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    announce(block, Math.min(Math.max(to[0], 0), layers - 1), Math.min(Math.max(to[1], 0), heads - 1));
  });
  onHead(block, (layer, head) => {
    if (layer < layers && head < heads) choose(layer * heads + head);
  });
  choose(chosen);
  const row = (score, i) => [Math.floor(i / heads), i % heads, score, data.low?.[i], data.high?.[i]];
  return { csv: () => csvOf([["layer", "head", data.unit, "low", "high"], ...data.scores.map(row)]) };
};

function details(data, layer, head) {
  const facts = Object.entries(data.details[`${layer}.${head}`] ?? {});
  return facts.length ? [el("dl", {}, ...facts.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v))))] : [];
}

/** The scores behind one head: a bar per sample, a summary, and the list. */
function samples(data, i) {
  if (!data.samples) return [];
  const values = data.samples[i], known = values.filter((v) => v !== null);
  if (!known.length) return [el("p", { class: "note" }, `No sample scored this head (0 of ${values.length}).`)];
  const name = (s) => data.labels[s] ?? `sample ${s + 1}`;
  const top = Math.max(...known, 1e-9), low = Math.min(...known, 0), range = top - low, y = (v) => 90 * (top - v) / range;
  const note = el("p", { class: "note" });
  const summary = `${known.length} sample${known.length === 1 ? "" : "s"}${known.length < values.length ? ` (of ${values.length})` : ""}, `
    + `${known.filter((v) => v > 0).length} above 0, median ${number(median(known))}. Hover a bar for its sample.`;
  note.textContent = summary;
  const chart = el("svg:svg", {
    viewBox: `0 0 ${values.length * 10} 92`, preserveAspectRatio: "none", role: "img",
    "aria-label": `Scores of the samples: ${summary}`,
  });
  values.forEach((v, s) => {
    if (v === null) chart.append(el("svg:line", { class: "missing", x1: s * 10 + 2, x2: s * 10 + 8, y1: 82, y2: 90 }));
    else chart.append(el("svg:rect", { x: s * 10 + 1, width: 8, y: Math.min(y(v), y(0)), height: Math.max(Math.abs(y(v) - y(0)), .5) }));
    const hit = el("svg:rect", { class: "hit", x: s * 10, y: 0, width: 10, height: 92 });
    hit.addEventListener("pointerenter", () => { note.textContent = `${name(s)}: ${number(v)}`; });
    chart.append(hit);
  });
  chart.addEventListener("pointerleave", () => { note.textContent = summary; });
  chart.append(el("svg:line", { x1: 0, x2: values.length * 10, y1: y(0), y2: y(0), "vector-effect": "non-scaling-stroke" }));
  const list = el("table", { class: "samples" }, el("tbody"));
  values.forEach((v, s) => list.firstChild.append(el("tr", {}, el("td", {}, name(s)), el("td", { class: "num" }, number(v, 4)))));
  const axis = el("div", { class: "axis" }, el("span", {}, number(top, 2)), el("span", {}, number(low, 2)));
  return [
    el("div", { class: "chart" }, axis, chart), note,
    el("details", {}, el("summary", {}, "List of samples"), el("div", { class: "scroll", tabindex: "0" }, list)),
  ];
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
