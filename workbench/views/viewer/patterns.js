const EDGE = 48, SIZE = 1024, WHOLE = EDGE + SIZE;  // Canvas pixels: room for marks at the left and top, the pattern, both.
const FINE = 64;  // Blocks a side that a zoom asks the kernel for.

/** Level of a cell (0 to 63; 255 where a layer has no attention) -> colour, as 32-bit words. */
function palette(stops, low) {
  const rgb = (i) => [1, 3, 5].map((j) => parseInt(stops[i].slice(j, j + 2), 16)), bytes = new Uint8Array(1024).fill(185);
  for (let level = 0; level < 64; level++) {
    const place = Math.max(level - low, 0) / (63 - low) * (stops.length - 1), left = Math.min(Math.floor(place), stops.length - 2), [a, b] = [rgb(left), rgb(left + 1)];
    bytes.set([...a.map((v, i) => Math.round(v + (b[i] - v) * (place - left))), 255], 4 * level);
  }
  bytes[1023] = 255;
  return new Uint32Array(bytes.buffer);
}

/** A part of a head's pattern from (q, k) on, in blocks of tall × wide tokens; `bytes` are levels, channel by channel. */
const tileOf = ([head, q, k, tall, wide, rows, columns, channels], bytes) =>
  ({ head, q, k, tall, wide, rows, columns, channels, bytes, drawn: [], q1: q + tall * rows, k1: k + wide * columns });

views.patterns = async (block, host) => {
  const data = await dataOf(block), { shape: [layers, heads], side, length, received, rows, spans } = data;
  const $ = (where) => block.querySelector(where), colours = palette(data.colours, data.low), size = Math.ceil(length / side);
  const overview = $(".overview"), sheet = $(".overview canvas"), field = $(".field"), canvas = $(".field canvas"), pen = canvas.getContext("2d");
  const channel = $("select.channel"), row = $("select.row"), tiles = Array.from({ length: layers * heads }, () => []);
  let chosen = data.first, q = [0, length], k = [0, length], drag = null, texts = [], pairs = [], turn = 0;
  const made = new Map();  // Exact rows that the kernel gave, by head and row.

  const name = (head) => `L${Math.floor(head / heads)}H${head % heads}`, many = (p) => p.toLocaleString("en");
  const token = (p) => texts[p] === undefined ? "" : ` “${texts[p]}”`;
  const range = (start, stop) => `${many(start)}${stop - start > 1 ? `–${many(Math.min(stop, length) - 1)}` : ""}${token(start)}`;
  const part = (p) => spans.filter(([, start, end]) => p >= start && p < end).map(([word]) => word).join(", ");
  const x = (key) => EDGE + SIZE * (key - k[0]) / (k[1] - k[0]), y = (query) => EDGE + SIZE * (query - q[0]) / (q[1] - q[0]);
  const add = (t) => tiles[t.head].push(t) && tiles[t.head].sort((a, b) => b.tall * b.wide - a.tall * a.wide);
  const which = () => Number(tiles[chosen].some((t) => t.channels > channel.value) && channel.value);
  const usable = () => tiles[chosen].filter((t) => t.channels > which());

  /** Colours of one channel of a tile, handed to `put(row, column, colour)`; a future that no query sees stays clear. */
  const paint = (t, c, put) => {
    for (let i = 0, at = c * t.rows * t.columns; i < t.rows * t.columns; i++) {
      const r = Math.floor(i / t.columns), col = i % t.columns, level = t.bytes[at + i], last = Math.min(t.q + (r + 1) * t.tall, length) - 1;
      if (level || (t.k + col * t.wide <= last && t.q + r * t.tall < length)) put(r, col, colours[level]);
    }
  };
  const sheetOf = (node, width, height, fill) => {
    [node.width, node.height] = [width, height];
    const image = new ImageData(width, height), words = new Uint32Array(image.data.buffer);
    fill((r, c, colour) => { words[r * width + c] = colour; });
    node.getContext("2d").putImageData(image, 0, 0);
    return node;
  };
  const exact = () => {
    if (made.has(`${chosen},${row.value}`)) return made.get(`${chosen},${row.value}`);
    const place = rows.heads.indexOf(chosen), start = (place * rows.positions.length + Number(row.value)) * rows.k;
    if (place < 0 || !row.value) return [];
    return [...rowKeys.slice(start, start + rows.k)].map((key, i) => [key, rowWeights[start + i]]).filter(([, w]) => w > 0);
  };

  const draw = () => {
    const colour = (variable) => { pen.fillStyle = pen.strokeStyle = styled(variable, block); };
    pen.clearRect(0, 0, WHOLE, WHOLE);
    pen.imageSmoothingEnabled = false;
    pen.save();
    pen.beginPath();
    pen.rect(EDGE, EDGE, SIZE, SIZE);
    pen.clip();
    for (const t of usable()) {
      const box = [x(t.k), y(t.q), x(t.k1) - x(t.k), y(t.q1) - y(t.q)], c = which();
      pen.clearRect(...box);
      pen.drawImage(t.drawn[c] ??= sheetOf(el("canvas"), t.columns, t.rows, (put) => paint(t, c, put)), ...box);
    }
    colour("--ring");
    if (row.value) pen.strokeRect(-9, y(rows.positions[row.value]), 2 * WHOLE, Math.max(y(1) - y(0), 2));
    for (const [key, w] of exact()) pen.fillRect(x(key) - 3, y(rows.positions[row.value]) - 3 - 14 * w, Math.max(x(1) - x(0), 6), 6 + 28 * w);
    pen.restore();
    spans.forEach(([, start, end], i) => {
      colour(`--span${i % 3}`);
      const bar = (at) => { const low = Math.max(at(start), EDGE); return [low, Math.min(Math.max(at(end), at(start) + 8), WHOLE) - low]; };
      const [[left, wide], [top, tall]] = [bar(x), bar(y)];
      if (wide > 0) pen.fillRect(left, 9 * (i % 3), wide, 7);
      if (tall > 0) pen.fillRect(9 * (i % 3), top, 7, tall);
    });
    colour("--ink");
    received.keys[chosen].forEach((key, i) => {
      const tall = 5 + 15 * received.weights[chosen][i], at = x(key + .5);
      if (at >= EDGE && at <= WHOLE) pen.fillRect(at - 1.5, EDGE - 1 - tall, 3, tall);
    });
    colour("--muted");
    pen.strokeRect(EDGE, EDGE, SIZE, SIZE);
    if (drag) pen.strokeRect(...drag.at, ...drag.by);
  };
  const say = (text) => { $(".readout").textContent = `${name(chosen)}: ${text}`; };
  const describe = (query, key) => {
    const far = received.keys[chosen].map((p) => Math.abs(x(p + .5) - x(key))), i = far.indexOf(Math.min(...far));
    if (query < q[0] && far[i] < 10) say(`key ${range(received.keys[chosen][i])} receives ${number(received.weights[chosen][i])}, the mean over the queries that see it`);
    const t = usable().findLast((some) => query >= some.q && key >= some.k && query < some.q1 && key < some.k1);
    if (!t || query < q[0] || key < k[0] || query >= length || key >= length) return;
    const r = Math.floor((query - t.q) / t.tall), c = Math.floor((key - t.k) / t.wide), level = t.bytes[(which() * t.rows + r) * t.columns + c];
    const [a, b] = [t.q + r * t.tall, t.k + c * t.wide], [reader, read] = [part(Math.floor(query)), part(Math.floor(key))];
    const weight = level ? 1e-6 ** (1 - (level - 1) / 62) : 0, amount = level ? `about ${number(weight, weight < .01 ? 6 : 3)}` : "below 0.000001";
    say(`queries ${range(a, a + t.tall)}${reader && ` (${reader})`} × keys ${range(b, b + t.wide)}${read && ` (${read})`}: ${level === 255 ? "no attention in this layer" : `${data.channels[which()]} ${amount}`}`);
  };
  const middle = () => describe((q[0] + q[1]) / 2, (k[0] + k[1]) / 2);
  const show = () => {
    draw();
    const finest = usable().at(-1), best = exact().sort((a, b) => b[1] - a[1]).slice(0, 10).map(([key, w]) => [key, texts[key], w, part(key)]);
    $(".where").textContent = `${name(chosen)}, ${data.channels[which()]}: queries ${many(q[0])}–${many(q[1] - 1)} × keys ${many(k[0])}–${many(k[1] - 1)}; finest blocks ${many(finest.tall)} × ${many(finest.wide)} tokens.`;
    const missing = row.value && !best.length && !host ? `Exact rows are stored of ${rows.heads.slice(0, 12).map(name).join(", ")}${rows.heads.length > 12 ? ", …" : ""}.` : "";
    const columns = [["query", "num"], ["token", "word"], ["key", "num"], ["token", "word"], ["weight", "num"]];
    const list = pairs.map(([query, key, w]) => [many(query), texts[query] ?? "", many(key), texts[key] ?? "", number(w)]);
    $(".keys").replaceChildren(best.length ? keyTable(best) : el("p", { class: "note" }, missing),
      ...list.length ? [el("h4", {}, "Largest weights in this part"), listTable(columns, list)] : []);
  };
  const heard = (answer, take) => { if (answer?.error) say(answer.error); else if (answer) { take(answer); show(); } };
  /** The largest weights of the part that is shown, and the exact row of a head whose rows the page does not hold. */
  const askLargest = async (ask) => {
    const mine = ++turn, answer = await host.ask("largest", ask);
    if (mine === turn) heard(answer, ({ pairs: found }) => { pairs = found; });
  };
  const askRow = async () => {
    const key = `${chosen},${row.value}`;
    if (row.value && !exact().length) heard(await host.ask("row", { head: [Math.floor(chosen / heads), chosen % heads], query: rows.positions[row.value] }), ({ keys }) => made.set(key, keys));
  };
  /** Shows a part of the pattern, and asks the kernel for finer blocks where one listens. */
  const zoom = async (...to) => {
    [q, k] = to.map(([low, high]) => {
      const wide = Math.min(Math.max(Math.round(high - low), 8), length), start = Math.min(Math.max(Math.round(low), 0), length - wide);
      return [start, start + wide];
    });
    pairs = [];
    show();
    if (host) askRow();
    const ask = { head: [Math.floor(chosen / heads), chosen % heads], queries: q, keys: k }, enough = ([a, b], width) => width <= Math.ceil((b - a) / FINE);
    if (host && (q[1] - q[0] < length || k[1] - k[0] < length)) askLargest(ask);
    else turn++;
    if (!host || which() > 0 || usable().some((t) => t.q <= q[0] && t.q1 >= q[1] && t.k <= k[0] && t.k1 >= k[1] && enough(q, t.tall) && enough(k, t.wide))) return;
    const answer = await host.ask("region", ask);
    if (answer?.error) say(answer.error);
    else if (answer) { add(tileOf(answer.tile, answer.bytes)); show(); }
  };
  const scaled = (by) => zoom(...[q, k].map(([a, b]) => [(a + b - (b - a) * by) / 2, (a + b + (b - a) * by) / 2]));
  const whole = () => zoom([0, length], [0, length]);
  const choose = (head) => {
    chosen = head;
    Object.assign($(".ring").style, { left: `${head % heads / heads * 100}%`, top: `${Math.floor(head / heads) / layers * 100}%` });
    zoom(q, k);
    middle();
  };
  const pick = (head) => { if (tiles[head]) announce(block, Math.floor(head / heads), head % heads); };

  const [all, rest, held] = await Promise.all(["overview", "tiles", "rows"].map((kind) => bytesOf(block, kind)));
  const count = rows.heads.length * rows.positions.length * rows.k, rowKeys = new Uint32Array(held, 0, count), rowWeights = new Float32Array(held, 4 * count, count);
  tiles.forEach((_, head) => add(tileOf([head, 0, 0, size, size, side, side, 1], new Uint8Array(all, head * side * side, side * side))));
  data.tiles.reduce((at, t) => { const n = t[5] * t[6] * t[7]; add(tileOf(t, new Uint8Array(rest, at, n))); return at + n; }, 0);
  const step = side + 2;
  sheetOf(sheet, heads * step, layers * step, (put) => tiles.forEach(([t], head) =>
    paint(t, 0, (r, c, colour) => put(Math.floor(head / heads) * step + r, head % heads * step + c, colour))));
  [canvas.width, canvas.height] = [WHOLE, WHOLE];
  choose(chosen);
  bytesOf(block, "texts").then((packed) => { texts = JSON.parse(new TextDecoder().decode(packed)); show(); middle(); block.dataset.texts = "true"; });

  const place = (event, node, wide, high) => { const r = node.getBoundingClientRect(); return [(event.clientX - r.x) / r.width * wide, (event.clientY - r.y) / r.height * high]; };
  sheet.addEventListener("click", (event) => { const [head, layer] = place(event, sheet, heads, layers).map(Math.floor); pick(layer * heads + head); });
  overview.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(move || event.key === "Enter")) return;
    event.preventDefault();
    if (!move) field.focus();
    else if (Math.abs(move) !== 1 || heads === 1 || (chosen % heads + move + heads) % heads === chosen % heads + move) pick(chosen + move);
  });
  field.addEventListener("keydown", (event) => {
    const pan = { ArrowUp: [-.25, 0], ArrowDown: [.25, 0], ArrowLeft: [0, -.25], ArrowRight: [0, .25] }[event.key], by = { "+": .5, "=": .5, "-": 2 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(pan || by || event.key === "Escape")) return;
    event.preventDefault();
    if (pan) zoom(...[q, k].map(([a, b], i) => [a + pan[i] * (b - a), b + pan[i] * (b - a)]));
    else if (by) scaled(by);
    else if (q[1] - q[0] < length || k[1] - k[0] < length) whole();
    else overview.focus();
    middle();
  });
  const at = ([left, top]) => [q[0] + (top - EDGE) / SIZE * (q[1] - q[0]), k[0] + (left - EDGE) / SIZE * (k[1] - k[0])];
  canvas.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse" && !event.button) { drag = { at: place(event, canvas, WHOLE, WHOLE), by: [0, 0] }; canvas.setPointerCapture(event.pointerId); } });
  canvas.addEventListener("pointermove", (event) => {
    const here = place(event, canvas, WHOLE, WHOLE);
    if (drag) { drag.by = here.map((v, i) => v - drag.at[i]); draw(); }
    describe(...at(here));
  });
  canvas.addEventListener("pointerup", () => {
    if (!drag) return;
    const ends = [at(drag.at), at(drag.at.map((v, i) => v + drag.by[i]))], moved = drag.by.every((v) => Math.abs(v) > 12);
    drag = null;
    if (moved) zoom(...[0, 1].map((i) => ends.map((end) => end[i]).sort((a, b) => a - b))); else draw();
  });
  block.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => Number(button.dataset.zoom) ? scaled(button.dataset.zoom) : whole()));
  channel.addEventListener("change", show);
  row.addEventListener("change", () => { show(); if (host) askRow(); });
  onScheme(draw);
  onHead(block, (layer, head) => { if (layer < layers && head < heads) choose(layer * heads + head); });
  const listed = () => [...received.keys[chosen].map((key, i) => ["received", "", key, texts[key], received.weights[chosen][i]]), ...exact().map(([key, w]) => ["row", rows.positions[row.value], key, texts[key], w]),
    ...pairs.map(([query, key, w]) => ["largest", query, key, texts[key], w])];
  const note = () => el("svg:text", { x: EDGE, y: WHOLE + 28, fill: styled("--ink"), "font-size": 18, "font-family": "sans-serif" }, $(".where").textContent);
  return {
    csv: () => csvOf([["what", "query", "key", "token", `weight of ${name(chosen)}`], ...listed()]),
    svg: () => fileOf(el("svg:svg", { viewBox: `0 0 ${WHOLE} ${WHOLE + 44}` }, el("svg:image", { href: canvas.toDataURL(), width: WHOLE, height: WHOLE }), note())),
  };
};
