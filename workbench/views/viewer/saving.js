/** Hands out a file; a Blob address is no request. */
function hand(name, media, content) {
  const address = URL.createObjectURL(new Blob([content], { type: media }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** A cell for spreadsheets: the full number where the table has it, no formula, quoted where it must be. */
function csvCell(text) {
  const whole = String(text ?? ""), bare = whole.trim().replace(/^\u2212/, "-");
  if (bare && !isNaN(bare)) return bare;
  const inert = /^[=+@-]/.test(bare) ? `'${whole}` : whole;
  return /[",\r\n]|^\s|\s$/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}
const csvOf = (rows) => rows.map((row) => row.map(csvCell).join(",") + "\r\n").join("");
const shownIn = (cell) => cell.matches(".num[data-key]") ? cell.dataset.key : [...cell.childNodes].map((n) => n.textContent).join(" ").trim();
const rowsOf = (table) => [...table.rows].map((row) => [...row.cells].map(shownIn));

/** A drawing as a file's text, on the page's ground. */
function fileOf(svg) {
  const [, , width, height] = svg.getAttribute("viewBox").split(/\s+/);
  for (const [key, value] of [["width", width], ["height", height]]) svg.setAttribute(key, value);
  svg.prepend(el("svg:rect", { width, height, fill: styled("--paper") }));
  return new XMLSerializer().serializeToString(svg);
}

const COPIED = "fill stroke strokeWidth strokeDasharray strokeOpacity fontFamily fontSize fontWeight textAnchor paintOrder imageRendering".split(" ");
/** A copy of a drawing with the page's styles written into it: it looks the same anywhere. */
function standalone(svg) {
  const copy = svg.cloneNode(true), twins = [copy, ...copy.querySelectorAll("*")];
  [svg, ...svg.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(node), above = node === svg ? {} : getComputedStyle(node.parentNode);
    for (const name of COPIED) if (style[name] !== above[name]) twins[i].style[name] = style[name];
    twins[i].style.opacity = style.opacity;
    if (style.display === "none") twins[i].remove();
  });
  return copy;
}

/** Cells and words of an element as a drawing: every ground and every text where it stands. */
function drawn(box) {
  const origin = box.getBoundingClientRect(), svg = el("svg:svg", { viewBox: `0 0 ${box.scrollWidth} ${box.scrollHeight}` });
  const at = (r) => ({ x: r.x - origin.x + box.scrollLeft, y: r.y - origin.y + box.scrollTop, width: r.width, height: r.height });
  for (const node of box.querySelectorAll("*")) {
    const style = getComputedStyle(node), range = document.createRange();
    svg.append(el("svg:rect", { ...at(node.getBoundingClientRect()), fill: style.backgroundColor }));
    for (const text of [...node.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE && n.data.trim())) {
      range.selectNodeContents(text);
      const { x, y, height } = at(range.getClientRects()[0] ?? origin);
      svg.append(el("svg:text", { x, y: y + height * .78, fill: style.color, style: `font:${style.font}` }, text.data));
    }
  }
  return svg;
}

const LARGEST = 16000;  // Pixels of a side that canvases of all browsers take.
/** The text of a drawing's file as a PNG of twice its size, or of less where that is too large. */
async function pngOf(text) {
  const image = new Image(), canvas = el("canvas"), pen = canvas.getContext("2d");
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
  await image.decode();
  const times = Math.min(2, LARGEST / Math.max(image.width, image.height));
  [canvas.width, canvas.height] = [image.width, image.height].map((side) => Math.round(times * side));
  pen.fillStyle = styled("--paper");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done));
}

/** Buttons under a figure or table. given: what its view makes better itself, { csv() -> text, svg() -> text }. */
function saves(block, given = {}) {
  const tables = () => [...block.querySelectorAll("table:not(.samples)")];
  const svg = block.querySelector(".map svg, .graph svg"), box = block.querySelector("table.grid, div.tokens");
  const csv = given.csv ?? (tables().length && (() => tables().map((t) => csvOf(rowsOf(t))).join("\r\n")));
  const picture = given.svg ?? (svg ? () => fileOf(standalone(svg)) : box && (() => fileOf(drawn(box))));
  const place = [...document.querySelectorAll("[data-block]")].indexOf(block) + 1;
  const button = (kind, media, make) => {
    const made = el("button", { type: "button", "aria-label": `Save as ${kind}` }, kind);
    made.addEventListener("click", async () => hand(`figure-${place}.${kind.toLowerCase()}`, media, await make()));
    return made;
  };
  const row = el("p", { class: "save" });
  if (csv) row.append(button("CSV", "text/csv", csv));
  if (picture) row.append(button("SVG", "image/svg+xml", picture), button("PNG", "image/png", async () => pngOf(await picture())));
  if (row.firstChild) block.append(row);
}
