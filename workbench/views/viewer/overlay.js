views.overlay = async (block) => {
  const one = (what) => block.querySelector(what), every = (what) => [...block.querySelectorAll(what)];
  const data = await dataOf(block), [layers, heads] = data.shape;
  const levels = await Promise.all(data.pictures.map(async (_, i) => new Uint8Array(await bytesOf(block, `levels${i}`))));
  const frame = one(".frame"), canvas = frame.querySelector("canvas"), map = one("canvas.heads"), readout = one(".readout");
  const images = every(".frame img"), texts = every(".said"), view = one("select.view"), picture = one("select.picture");
  const opacity = one("input[type=range]"), smooth = one("input[type=checkbox]"), cell = Math.max(6, Math.min(26, Math.floor(300 / Math.max(layers, heads))));
  const place = new Map(data.heads.map(([layer, head], i) => [layer * heads + head, i]));
  let shown = 0, word = 0, chosen = 0, part = null;

  const here = () => data.pictures[shown];
  const grid = () => { const all = here().views; return all[Math.min(Number(view?.value ?? 0), all.length - 1)]; };
  /** Bytes of one map of the view that is shown; nothing where the page does not hold this head. */
  const bytes = (w) => {
    const all = here().views, at = all.indexOf(grid()), size = ([rows, columns]) => rows * columns, k = place.get(chosen);
    if (k === undefined) return null;
    const before = all.slice(0, at).reduce((sum, g) => sum + size(g) * here().mass.length * data.heads.length, 0);
    const start = before + (w * data.heads.length + k) * size(grid());
    return levels[shown].subarray(start, start + size(grid()));
  };
  const top = (w) => here().tops[w][place.get(chosen)] ?? null;
  const mass = (w) => here().mass[w][Math.floor(chosen / heads)][chosen % heads];
  const weight = (w, i) => { const found = bytes(w); return found && top(w) !== null ? found[i] / 255 * top(w) : null; };
  const spot = (i) => `row ${Math.floor(i / grid()[1]) + 1}, column ${i % grid()[1] + 1}`;
  const name = () => `L${Math.floor(chosen / heads)}H${chosen % heads}`;
  const said = (w) => texts[shown].children[w].textContent;
  const paint = (context, [r, g, b], ...box) => { context.fillStyle = `rgb(${r},${g},${b})`; context.fillRect(...box); };

  const draw = () => {
    const [rows, columns, left, above, right, below] = grid(), found = bytes(word);
    images.forEach((image, i) => { image.hidden = i !== shown; });
    texts.forEach((text, i) => { text.hidden = i !== shown; });
    [canvas.width, canvas.height] = [columns, rows];
    const percent = (x) => `${100 * x}%`;
    Object.assign(canvas.style, { left: percent(left), top: percent(above), width: percent(right - left), height: percent(below - above), opacity: opacity.value });
    canvas.classList.toggle("smooth", smooth.checked);
    const context = canvas.getContext("2d");
    found?.forEach((level, i) => paint(context, data.colours[level], i % columns, Math.floor(i / columns), 1, 1));
    heatHeads();
    const parts = part === null ? null : here().mass.map((_, w) => weight(w, part) ?? 0), most = parts && Math.max(...parts, 1e-9);
    [...texts[shown].children].forEach((button, w) => {
      button.setAttribute("aria-pressed", w === word);
      button.tabIndex = w === word ? 0 : -1;
      const share = parts ? parts[w] / most : 0;
      heat(button, share, Number(styled("--heat-flip", block)));
    });
    one(".top").textContent = number(top(word));
    say();
  };
  /** The small map: attention of every head on the picture at this word, from 0 to 1. */
  const heatHeads = () => {
    const context = map.getContext("2d");
    [map.width, map.height] = [heads * cell, layers * cell];
    here().mass[word].flat().forEach((value, i) => {
      const box = [i % heads * cell, Math.floor(i / heads) * cell, cell - 1, cell - 1];
      paint(context, value === null ? [185, 185, 185] : data.colours[Math.round(255 * Math.min(1, value))], ...box);
      if (!place.has(i)) { context.clearRect(box[0] + cell / 3, box[1] + cell / 3, cell / 3, cell / 3); }
    });
    context.lineWidth = 2;
    context.strokeStyle = styled("--ring", block);
    context.strokeRect(chosen % heads * cell + 1, Math.floor(chosen / heads) * cell + 1, cell - 3, cell - 3);
  };
  const say = (i) => {
    const found = bytes(word), best = found && found.indexOf(Math.max(...found)), at = i ?? part;
    const what = !found ? "this page does not hold its map"
      : at !== null ? `${spot(at)}: weight ${number(weight(word, at), 4)}` : `most on ${spot(best)}: ${number(weight(word, best), 4)}`;
    readout.replaceChildren(`${name()} at “${said(word)}”: ${number(mass(word))} of its attention is on the picture `, el("small", {}, what));
    if (i === undefined) canvas.setAttribute("aria-label", readout.textContent);
  };
  const go = (i) => announce(block, Math.floor(i / heads), i % heads);
  const partAt = (event) => {
    const box = canvas.getBoundingClientRect(), [rows, columns] = grid();
    const x = Math.floor((event.clientX - box.x) / box.width * columns), y = Math.floor((event.clientY - box.y) / box.height * rows);
    return x >= 0 && y >= 0 && x < columns && y < rows ? y * columns + x : null;
  };
  const turn = (w) => { word = Math.max(0, Math.min(w, here().mass.length - 1)); draw(); };
  const open = (i) => {
    [shown, part] = [i, null];
    turn(here().start);
  };
  /** The picture with the map over it, as the text of a file. */
  const svg = () => {
    const image = images[shown], w = 512, h = Math.round(w * image.naturalHeight / image.naturalWidth);
    const [, , left, above, right, below] = grid(), style = (soft) => `image-rendering:${soft ? "auto" : "pixelated"}`;
    const over = { x: left * w, y: above * h, width: (right - left) * w, height: (below - above) * h, opacity: opacity.value, preserveAspectRatio: "none" };
    return new XMLSerializer().serializeToString(el("svg:svg", { viewBox: `0 0 ${w} ${h}`, width: w, height: h },
      el("svg:image", { href: image.src, width: w, height: h, style: style(!image.classList.contains("small")) }),
      el("svg:image", { href: canvas.toDataURL(), ...over, style: style(smooth.checked) })));
  };
  const keys = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(step || event.key === "Escape")) return;
    event.preventDefault();
    if (!step) { part = null; draw(); return; }
    const x = chosen % heads + (Math.abs(step) === 1 ? step : 0), to = chosen + step;
    if (x >= 0 && x < heads && to >= 0 && to < layers * heads) go(to);
  };

  for (const target of [frame, map]) target.addEventListener("keydown", keys);
  canvas.addEventListener("pointermove", (event) => say(partAt(event) ?? undefined));
  canvas.addEventListener("pointerleave", () => say());
  canvas.addEventListener("click", (event) => { const i = partAt(event); part = i === part ? null : i; draw(); });
  map.addEventListener("click", (event) => {
    const box = map.getBoundingClientRect(), at = (x, size, n) => Math.max(0, Math.min(n - 1, Math.floor(x / size * n)));
    go(at(event.clientY - box.y, box.height, layers) * heads + at(event.clientX - box.x, box.width, heads));
  });
  texts.forEach((text) => {
    text.addEventListener("click", (event) => { const w = [...text.children].indexOf(event.target.closest("button")); if (w >= 0) turn(w); });
    text.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      turn(word + step);
      text.children[word].focus();
    });
  });
  picture?.addEventListener("change", () => open(Number(picture.value)));
  view?.addEventListener("change", () => { part = null; draw(); });
  for (const input of [opacity, smooth]) input.addEventListener("input", draw);
  onScheme(draw);
  onHead(block, (layer, head) => { if (layer < layers && head < heads) { chosen = layer * heads + head; draw(); } });
  chosen = data.heads[data.first][0] * heads + data.heads[data.first][1];
  open(0);
  return { svg };
};
