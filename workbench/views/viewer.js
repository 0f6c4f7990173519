/* Brings the blocks of a page to life. No dependency, no network, no eval; text only ever enters as textContent. */

const NS = "http://www.w3.org/2000/svg";
const CHOSEN = "workbench-head";

/** gzip + base64 -> text, by the browser's own decompressor. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const dataOf = async (block) => JSON.parse(await unpack(block.querySelector(":scope script.data").textContent));

const loaded = new Map();
/** Runs an embedded library once; an inline script, so the page's policy needs neither eval nor blob: scripts. */
function library(name) {
  if (!loaded.has(name)) loaded.set(name, unpack(document.querySelector(`[data-library="${name}"]`).textContent).then((source) => {
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
  }));
  return loaded.get(name);
}

/** An element with attributes and children; strings become text. */
function el(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(NS, tag.slice(4)) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const number = (value, digits = 3) =>
  value === null || value === undefined ? "n/a" : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace(/^-/, "\u2212");
const interval = (value, low, high) =>
  value === null || low == null || high == null ? number(value) : `${number(value)} [${number(low)}, ${number(high)}]`;

/* ---- tables ---- */

function table(block) {
  const body = block.querySelector("tbody");
  const headers = [...block.querySelectorAll("thead th")];
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const numeric = header.classList.contains("num");
    const before = header.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    headers.forEach((h) => h.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows];
    const open = rows.filter((row) => !row.hidden).length;
    const key = (row) => row.cells[column].dataset.key;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y);
      return down ? -order : order;
    });
    rows.forEach((row, place) => { row.hidden = place >= open; });
    body.append(...rows);
  }));
  const more = block.querySelector("button.more");
  more?.addEventListener("click", () => { for (const row of body.rows) row.hidden = false; more.remove(); });
  block.addEventListener("click", (event) => {
    const link = event.target.closest("[data-head]");
    if (link) announce(...link.dataset.head.split(".").map(Number));
  });
}

/* ---- head map ---- */

const announce = (layer, head) => document.dispatchEvent(new CustomEvent(CHOSEN, { detail: { layer, head } }));

async function headmap(block) {
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
  svg.addEventListener("click", (event) => { const i = cellAt(event); if (i !== null) announce(Math.floor(i / heads), i % heads); });
  map.addEventListener("keydown", (event) => {
    const layer = Math.floor(chosen / heads), head = chosen % heads;
    const to = {
      ArrowLeft: [layer, head - 1], ArrowRight: [layer, head + 1], ArrowUp: [layer - 1, head], ArrowDown: [layer + 1, head],
      Home: [layer, 0], End: [layer, heads - 1], "[": [layer - 1, head], "]": [layer + 1, head],
    }[event.key];
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    announce(Math.min(Math.max(to[0], 0), layers - 1), Math.min(Math.max(to[1], 0), heads - 1));
  });
  document.addEventListener(CHOSEN, ({ detail }) => {
    if (detail.layer < layers && detail.head < heads) choose(detail.layer * heads + detail.head);
  });
  const asked = /^#head=(\d+)\.(\d+)$/.exec(location.hash);
  const [askedLayer, askedHead] = asked ? [Number(asked[1]), Number(asked[2])] : [layers, heads];
  choose(askedLayer < layers && askedHead < heads ? askedLayer * heads + askedHead : chosen);
}

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

/* ---- Plotly ---- */

const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const titled = (axis, own) => ({ ...axis, ...own, title: { ...own.title, font: { size: 13 } } });

/** The figure's own layout inside the theme of the page: ink, grid, font, and no gesture that would trap scrolling. */
function themed(layout) {
  const ink = styled("--ink"), muted = styled("--muted"), rule = styled("--rule");
  const axis = { gridcolor: rule, linecolor: muted, tickcolor: muted, ticks: "outside", showline: true, zeroline: false, fixedrange: true, automargin: true };
  return {
    ...layout, dragmode: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: styled("--sans"), size: 13, color: ink }, margin: { l: 56, r: 16, t: layout.annotations?.length ? 26 : 10, b: 48 },
    showlegend: false,
    hoverlabel: { bgcolor: styled("--soft"), bordercolor: muted, font: { color: ink } },
    xaxis: titled(axis, layout.xaxis), yaxis: titled(axis, layout.yaxis),
    shapes: (layout.shapes ?? []).map((s) => ({ ...s, line: { ...s.line, color: muted } })),
    annotations: (layout.annotations ?? []).map((a) => ({ ...a, font: { size: 12, color: muted } })),
  };
}

async function plotly(block) {
  const [spec] = await Promise.all([dataOf(block), library("plotly")]);
  const place = block.querySelector(".plot");
  const config = {
    responsive: true, displaylogo: false, scrollZoom: false, showTips: false,
    modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg", filename: "figure" },
  };
  const draw = () => Plotly.react(place, spec.data, themed(spec.layout), config);
  await draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
}

/* ---- CircuitsVis ---- */

async function attention(block) {
  const details = block.querySelector("details");
  details.addEventListener("toggle", async () => {
    if (!details.open || details.dataset.drawn) return;
    details.dataset.drawn = "true";
    const [data] = await Promise.all([dataOf(block), library("circuitsvis")]);
    const place = block.querySelector(".circuitsvis");
    place.id = `circuitsvis-${[...document.querySelectorAll(".circuitsvis")].indexOf(place)}`;
    CircuitsVis.render(place.id, CircuitsVis.AttentionPatterns, data);
  });
}

/* ---- circuit graph ---- */

function circuit(block) {
  const box = block.querySelector(".graph"), readout = block.querySelector(".readout"), output = block.querySelector("output");
  const nodes = [...box.querySelectorAll(".node")], edges = [...box.querySelectorAll(".edge")];
  const about = (part) => part.querySelector("title").textContent;
  const seen = (part) => !part.classList.contains("below");
  const hint = "Hover for the evidence; click a head for the paths through it.";
  let chosen = [], own = false;

  /** What is reached from some nodes along the edges that are shown: `from` and `to` are "s" and "r", or the reverse. */
  const reach = (start, from, to) => {
    const found = new Set(start), left = [...start.map((node) => node.dataset.n)], done = new Set(left);
    while (left.length) {
      const here = left.pop();
      for (const edge of edges.filter((e) => e.dataset[from] === here && seen(e))) {
        found.add(edge);
        if (!done.has(edge.dataset[to])) { done.add(edge.dataset[to]); left.push(edge.dataset[to]); }
      }
    }
    nodes.filter((node) => done.has(node.dataset.n)).forEach((node) => found.add(node));
    return found;
  };
  const choose = (some) => {
    chosen = some.filter(seen);
    const lit = new Set([...reach(chosen, "s", "r"), ...reach(chosen, "r", "s")]);
    for (const part of [...nodes, ...edges]) {
      part.classList.toggle("dim", chosen.length > 0 && !lit.has(part));
      part.classList.toggle("picked", chosen.includes(part));
    }
    say();
  };
  const say = (part) => { readout.textContent = part ? about(part) : chosen.map(about).join(" ") || hint; };
  const pick = (node) => {
    choose([node]);
    if (!node.dataset.head) return;
    own = true;  // The other figures of the page follow; this one keeps the node that was meant, not all of its head.
    announce(...node.dataset.head.split(".").map(Number));
    own = false;
  };
  const partAt = (event) => event.target.closest(".node, .edge");
  const middle = (node) => { const r = node.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; };

  box.addEventListener("pointerover", (event) => say(partAt(event)));
  box.addEventListener("pointerleave", () => say());
  box.addEventListener("click", (event) => {
    const part = partAt(event);
    if (part?.matches(".node") && !chosen.includes(part)) pick(part);
    else if (!part?.matches(".edge")) choose([]);
  });
  box.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(way || event.key === "Escape")) return;
    event.preventDefault();
    if (!way) { choose([]); return; }
    const shown = nodes.filter(seen), now = chosen[0];
    if (!now) { pick(shown.find((node) => node.dataset.n === "logits")); return; }
    const [x, y] = middle(now);
    // The nearest in that direction; what lies across it counts double, so that rows and columns are kept.
    const far = (node) => {
      const [u, v] = middle(node), along = (u - x) * way[0] + (v - y) * way[1], across = Math.abs(way[0] ? v - y : u - x);
      return along > 1 ? along + 2 * across : Infinity;
    };
    const next = shown.reduce((best, node) => (far(node) < far(best) ? node : best), now);
    if (next !== now) pick(next);
    chosen[0]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  block.querySelector("input").addEventListener("input", ({ target }) => {
    output.textContent = Number(target.value).toFixed(3);
    for (const part of [...nodes, ...edges]) {
      part.classList.toggle("below", part.dataset.share !== undefined && Number(part.dataset.share) < Number(target.value));
    }
    choose(chosen);
  });
  document.addEventListener(CHOSEN, ({ detail }) => {
    if (!own) choose(nodes.filter((node) => node.dataset.head === `${detail.layer}.${detail.head}`));
  });
  box.scrollLeft = box.scrollWidth;
  say();
}

/* ---- tokens ---- */

async function tokens(block) {
  const data = await dataOf(block);
  const head = block.querySelector("select.head"), row = block.querySelector("select.row");
  const readout = block.querySelector(".readout"), list = block.querySelector(".keys"), box = block.querySelector("div.tokens");
  const spans = [...box.querySelectorAll("[data-p]")];
  const spanOf = (p) => Object.entries(data.spans).filter(([, [start, end]]) => p >= start && p < end).map(([name]) => name).join(", ");
  let weights = new Map(), least = 0;

  const draw = () => {
    const keys = data.keys[head.value][row.value], values = data.weights[head.value][row.value];
    weights = new Map(keys.map((p, i) => [p, values[i]]).filter(([p, v]) => p >= 0 && v !== null));
    const top = Math.max(...weights.values(), 1e-9);
    least = Math.min(...weights.values());
    const flip = Number(styled("--heat-flip"));
    for (const span of spans) {
      const share = (weights.get(Number(span.dataset.p)) ?? 0) / top;
      span.style.background = share > 0 ? `rgba(var(--heat), ${share.toFixed(3)})` : "";
      span.style.color = share > flip ? "var(--heat-ink)" : "";
      span.classList.toggle("reader", Number(span.dataset.p) === data.positions[row.value]);
    }
    block.querySelector(".top").textContent = number(top);
    const best = [...weights].sort((a, b) => b[1] - a[1]).filter(([, v]) => v >= 0.0005).slice(0, 10);
    const rows = best.map(([p, v]) => el("tr", {}, el("td", { class: "num" }, p.toLocaleString("en")),
      el("td", { class: "word" }, data.texts[p]), el("td", { class: "num" }, number(v)), el("td", {}, spanOf(p))));
    const titles = ["position", "token", "weight", "part"].map((t, i) => el("th", { scope: "col", ...(i % 2 ? {} : { class: "num" }) }, t));
    list.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...titles)), el("tbody", {}, ...rows)));
    say();
  };
  const say = (span) => {
    if (!span) {
      const total = [...weights].filter(([p]) => spanOf(p)).reduce((sum, [, v]) => sum + v, 0);
      readout.textContent = `${head.selectedOptions[0].text}: ${data.whole ? "" : "at least "}${number(total)} of its attention is on the marked parts.`;
      return;
    }
    const p = Number(span.dataset.p), part = spanOf(p), v = weights.get(p);
    const weight = v !== undefined ? `weight ${number(v, 4)}` : `not among the ${weights.size} weights kept of this row (smallest ${number(least, 4)})`;
    readout.textContent = `“${span.textContent}” at position ${p.toLocaleString("en")}: ${weight}${part ? `, ${part}` : ""}`;
  };
  box.addEventListener("pointerover", (event) => say(event.target.closest("[data-p]")));
  box.addEventListener("pointerleave", () => say());
  head.addEventListener("change", draw);
  row.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener(CHOSEN, ({ detail }) => {
    const option = [...head.options].find((o) => o.text === `L${detail.layer}H${detail.head}`);
    if (option) { head.value = option.value; draw(); }
  });
  draw();
  const mark = box.querySelector(".span0");
  if (mark) box.scrollTop = mark.offsetTop - box.offsetTop - box.clientHeight / 3;
}

/* ---- command, downloads ---- */

function command(block) {
  const button = block.querySelector("button.copy"), code = block.querySelector("code");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    // The clipboard is closed to some file:// pages: the text then stays selected for the reader's own copy key.
    const copied = navigator.clipboard ? await navigator.clipboard.writeText(code.textContent).then(() => true, () => false) : false;
    button.textContent = copied || document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  });
}

function downloads(block) {
  block.querySelectorAll("button.file").forEach((button, place) => button.addEventListener("click", async () => {
    const [name, media, text] = (await dataOf(block))[place];
    const address = URL.createObjectURL(new Blob([text], { type: media }));
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }));
}

const KINDS = { table, headmap, plotly, attention, circuit, tokens, command, downloads };

/** Starts every block under `root`; `data-ready` on the document's element says that all have been drawn. */
export async function mount(root) {
  const blocks = [...root.querySelectorAll("[data-block]")].filter((block) => KINDS[block.dataset.block]);
  document.addEventListener(CHOSEN, ({ detail }) => history.replaceState(null, "", `#head=${detail.layer}.${detail.head}`));
  await Promise.all(blocks.map((block) => KINDS[block.dataset.block](block)));
  document.documentElement.dataset.ready = "true";
}
