/* Brings the blocks of a page to life. No dependency, no network, no eval; text only ever enters as textContent.
   What every view may use stands here; `viewer_source.py` says how the files are joined and how to add a view. */

const NS = "http://www.w3.org/2000/svg";
const CHOSEN = "workbench-head";
const SCHEME = "workbench-scheme";  // From a notebook: its colours have changed.
const PICKED = "workbench-picked";  // From a notebook: the list of heads is another one.
/** data-block of an element -> what brings it to life; each file of this folder adds one. */
const views = {};

/** gzip + base64 -> a Response, by the browser's own decompressor. */
function unpacked(text) {
  const raw = atob(text.trim()), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}
const unpack = (text) => unpacked(text).text();

const dataOf = async (block) => JSON.parse(await unpack(block.querySelector(":scope script.data").textContent));
/** Bytes that the block carries under a name, or null. */
const bytesOf = (block, name) => {
  const held = block.querySelector(`:scope script.bytes[data-name="${name}"]`);
  return held && unpacked(held.textContent).arrayBuffer();
};

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

/** A custom property of the theme, as it stands at `block`. */
const styled = (name, block = document.documentElement) => getComputedStyle(block).getPropertyValue(name).trim();
/** Calls `draw` again when colours change: another scheme, or paper. */
function onScheme(draw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener(SCHEME, draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
}

/* One head is chosen at a time for all figures of a page (or of a notebook output). */
const home = (block) => block.closest("[data-workbench]") ?? document;
const announce = (block, layer, head) => home(block).dispatchEvent(new CustomEvent(CHOSEN, { detail: { layer, head } }));
const onHead = (block, follow) => home(block).addEventListener(CHOSEN, ({ detail }) => follow(detail.layer, detail.head));
/** The head that the address names (#L12H7), or null. */
function linked() {
  const found = /^#L(\d+)H(\d+)$/.exec(location.hash);
  return found && [Number(found[1]), Number(found[2])];
}

/** Heat behind a word: its share of the highest, and ink that can be read on it. flip: the share where that changes. */
function heat(node, share, flip) {
  node.style.background = share > 0 ? `rgba(var(--heat), ${share.toFixed(3)})` : "";
  node.style.color = share > 0 ? `var(--heat-${share > flip ? "ink" : "low"})` : "";
}

/** A table of texts. columns: the title of each and the class of its cells. */
function listTable(columns, rows) {
  const titles = columns.map(([title, kind]) => el("th", { scope: "col", class: kind === "num" ? kind : "" }, title));
  const body = rows.map((row) => el("tr", {}, ...row.map((text, i) => el("td", { class: columns[i][1] }, text))));
  return el("table", {}, el("thead", {}, el("tr", {}, ...titles)), el("tbody", {}, ...body));
}

/** A table of keys that are read: [position, token, weight, part of the text] each. */
const keyTable = (keys) => listTable([["position", "num"], ["token", "word"], ["weight", "num"], ["part", ""]],
  keys.map(([p, text, weight, part]) => [p.toLocaleString("en"), text ?? "", number(weight), part]));
