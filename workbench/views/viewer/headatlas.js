views.headatlas = async (block) => {
  const data = await dataOf(block), $ = (where) => block.querySelector(where), maps = [...block.querySelectorAll(".map")];
  const sides = data.sides, sizes = sides.map(({ shape }) => shape[0] * shape[1]), picked = sides.map(() => new Set());
  const levels = await Promise.all(sides.map((side, s) => Promise.all(side.pictures.map(async (p, j) => new Uint8Array(await bytesOf(block, `p${s}.${j}`))))));
  const stops = data.colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  let x = data.x, y = data.y, now = 0, chosen = 0;

  const value = (s, key, i) => sides[s].values[key]?.[0][i] ?? null;
  const name = (s, i) => `L${Math.floor(i / sides[s].shape[1])}H${i % sides[s].shape[1]}`;
  const said = (v) => v === null || v === undefined ? "n/a" : number(v, Math.abs(v) < 10 ? 3 : Math.abs(v) < 1000 ? 1 : 0);
  const titled = ([, title, , , , version]) => version ? `${title} (${version})` : title;
  const colour = (share) => {
    if (!(share >= 0)) return stops.at(-1);
    const place = Math.min(share, 1) * (stops.length - 2), left = Math.min(Math.floor(place), stops.length - 3), part = place - left;
    return stops[left].map((c, i) => Math.round(c + (stops[left + 1][i] - c) * part));
  };
  const hex = (c) => `rgb(${c.join(",")})`;
  const all = (key) => sides.flatMap((_, s) => Array.from({ length: sizes[s] }, (_, i) => value(s, key, i))).filter((v) => v !== null);
  const ends = (key) => {
    const known = all(key), low = Math.min(0, ...known), high = Math.max(...known, low);
    return [low, high > low ? high : low + 1];
  };
  const paint = (wide, tall, colours) => {
    const canvas = el("canvas", { width: wide, height: tall }), pen = canvas.getContext("2d"), pixels = pen.createImageData(wide, tall);
    for (let i = 0; i < wide * tall; i++) pixels.data.set([...colours(i), 255], 4 * i);
    pen.putImageData(pixels, 0, 0);
    return canvas;
  };
  const square = (s, i) => {
    const { x: x0, y: y0, w, h } = maps[s].dataset, heads = sides[s].shape[1];
    return `M${+x0 + (i % heads) * w} ${+y0 + Math.floor(i / heads) * h}h${w}v${h}h-${w}z`;
  };

  /* ---- maps and scatter ---- */
  const drawMaps = () => {
    const [low, high] = ends(x);
    maps.forEach((map, s) => map.querySelector("image").setAttribute("href",
      paint(sides[s].shape[1], sides[s].shape[0], (i) => { const v = value(s, x, i); return colour(v === null ? NaN : (v - low) / (high - low)); }).toDataURL()));
    const bar = el("i", { style: `background:linear-gradient(90deg,${stops.slice(0, -1).map(hex).join(",")})` });
    const ticks = [low, (low + high) / 2, high].map((v) => el("span", {}, said(v)));
    $(".scale").replaceChildren(el("span", { class: "unit" }, `${titled(data.scores[x])}, ${data.scores[x][2]} (linear)`),
      el("span", { class: "scale" }, bar, el("span", { class: "ticks" }, ...ticks)));
  };
  const W = 640, H = 380, L = 62, B = 48, R = 30;
  let at = [];
  const drawCloud = () => {
    const [[x0, x1], [y0, y1]] = [ends(x), ends(y)], far = (v, a, b, from, to) => from + (v - a) / (b - a) * (to - from);
    at = sides.map((_, s) => Array.from({ length: sizes[s] }, (_, i) => {
      const [u, v] = [value(s, x, i), value(s, y, i)];
      return u === null || v === null ? null : [far(u, x0, x1, L, W - R), far(v, y0, y1, H - B, 12)];
    }));
    const svg = el("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${titled(data.scores[x])} against ${titled(data.scores[y])}: a point a head. Drag to select.` });
    svg.append(el("svg:path", { class: "frame", d: `M${L} 12V${H - B}H${W - R}` }));
    for (const share of [0, .5, 1]) svg.append(
      el("svg:text", { x: L + share * (W - R - L), y: H - B + 16, "text-anchor": "middle" }, said(x0 + share * (x1 - x0))),
      el("svg:text", { x: L - 6, y: H - B + share * (12 - H + B), dy: ".35em", "text-anchor": "end" }, said(y0 + share * (y1 - y0))));
    svg.append(el("svg:text", { class: "axis", x: (L + W) / 2, y: H - 8, "text-anchor": "middle" }, titled(data.scores[x])),
      el("svg:text", { class: "axis", x: 14, y: (H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(H - B) / 2})` }, titled(data.scores[y])));
    at.forEach((points, s) => svg.append(el("svg:path", { class: "dots", stroke: data.marks[s], d: points.map((p) => p ? `M${p[0].toFixed(1)} ${p[1].toFixed(1)}h0` : "").join("") })));
    svg.append(el("svg:path", { class: "some", d: "" }), el("svg:path", { class: "chosen", d: "" }), el("svg:path", { class: "brush", d: "" }));
    const keys = sides.length < 2 ? [] : sides.map((side, s) => el("span", { class: "key" }, el("i", { class: "swatch", style: `background:${data.marks[s]}` }), side.label));
    $(".cloud").replaceChildren(svg, el("div", { class: "legend" }, ...keys));
    brush(svg);
    mark();
  };
  const spot = ([u, v], r) => `M${u - r} ${v}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 -${2 * r} 0`;
  const mark = () => {
    maps.forEach((map, s) => {
      map.querySelector(".some").setAttribute("d", [...picked[s]].map((i) => square(s, i)).join(""));
      map.querySelector(".chosen").setAttribute("d", chosen < sizes[s] && (s === now || sides.length > 1) ? square(s, chosen) : "");
    });
    const cloud = $(".cloud svg"), dot = (s, i, r) => at[s]?.[i] ? spot(at[s][i], r) : "";
    cloud?.querySelector(".some").setAttribute("d", picked.flatMap((some, s) => [...some].map((i) => dot(s, i, 6))).join(""));
    cloud?.querySelector(".chosen").setAttribute("d", dot(now, chosen, 9));
    const count = picked.reduce((n, some) => n + some.size, 0);
    $("output").textContent = `${count} head${count === 1 ? "" : "s"} selected`;
    $(".hand").disabled = !count;
  };
  const brush = (svg) => {
    let from = null, moved = false;
    const place = (event) => { const box = svg.getBoundingClientRect(), k = W / box.width; return [(event.clientX - box.left) * k, (event.clientY - box.top) * k]; };
    svg.addEventListener("pointerdown", (event) => { from = place(event); moved = false; svg.setPointerCapture(event.pointerId); });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [u, v] = place(event);
      moved ||= Math.hypot(u - from[0], v - from[1]) > 4;
      if (moved) svg.querySelector(".brush").setAttribute("d", `M${from[0]} ${from[1]}H${u}V${v}H${from[0]}z`);
    });
    svg.addEventListener("pointerup", (event) => {
      const [u, v] = place(event), [a, b] = from ?? [u, v];
      from = null;
      svg.querySelector(".brush").setAttribute("d", "");
      const near = at.flatMap((points, s) => points.map((p, i) => p && [Math.hypot(p[0] - u, p[1] - v), s, i])).filter(Boolean).sort((p, q) => p[0] - q[0])[0];
      if (!moved) { if (near && near[0] < 24) go(near[1], near[2]); return; }
      at.forEach((points, s) => points.forEach((p, i) => {
        if (p && (p[0] - a) * (p[0] - u) <= 0 && (p[1] - b) * (p[1] - v) <= 0) picked[s].add(i);
      }));
      mark();
    });
  };

  /* ---- the card ---- */
  const rank = (s, key, i) => 1 + sides[s].values[key][0].filter((v) => v !== null && v > value(s, key, i)).length;
  const numbers = (s, i) => {
    const rows = data.scores.flatMap((score, key) => {
      if (value(s, key, i) === null) return [];
      const [v, low, high] = sides[s].values[key].map((each) => each[i]), bounds = low == null ? "" : ` [${said(low)}, ${said(high)}]`;
      return [el("tr", {}, el("td", { title: score[3] }, titled(score)), el("td", { class: "num" }, said(v) + bounds), el("td", { class: "num" }, rank(s, key, i)), el("td", { class: "num" }, score[4]))];
    });
    const head = ["score", "value [95 %]", "rank", "n"].map((t, j) => el("th", { scope: "col", class: j ? "num" : "" }, t));
    return el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
  };
  const profile = (s, i) => {
    const both = Object.entries(sides[s].profiles).map(([v, each]) => [v, each[i] ?? []]), n = both[0][1].length, step = 240 / n;
    const most = Math.max(...both.flatMap(([, bins]) => bins), 1e-9), tall = (m) => 70 * Math.max(0, m ?? 0) / most;
    const svg = el("svg:svg", { viewBox: "0 0 252 96", role: "img", "aria-label": `Attention by distance of ${name(s, i)}` });
    both.forEach(([, bins], place) => bins.forEach((m, b) => svg.append(el("svg:rect", {
      class: place ? "rest" : "raw", x: 6 + b * step + place * step * .45, width: step * .42, y: 76 - tall(m), height: tall(m) }))));
    for (let b = 0; b < n; b += 2) svg.append(el("svg:text", { x: 6 + b * step, y: 90 }, b < 2 ? b : 2 ** (b - 1)));
    const keys = both.map(([v], place) => el("span", { class: "key" }, el("i", { class: `swatch ${place ? "rest" : "raw"}` }), v));
    return el("div", {}, el("h4", {}, "Attention by distance in tokens", el("small", {}, `, highest bar ${said(most)}`)), svg, el("div", { class: "legend" }, ...keys));
  };
  const thumbnail = (s, j, i) => {
    const [title, n, spans] = sides[s].pictures[j], cells = n * (n + 1) / 2;
    const canvas = paint(n, n, (at) => {
      const [r, c] = [Math.floor(at / n), at % n];
      return c > r ? stops[0] : colour(levels[s][j][i * cells + r * (r + 1) / 2 + c] / (data.levels - 1));
    });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Pattern of ${name(s, i)} on ${title}`);
    const ticks = spans.map(([part, a, b]) => el("i", { title: part, style: `left:${100 * a}%;width:max(2px,${100 * (b - a)}%)` }));
    const parts = spans.map(([part]) => part).join(", ");
    return el("figure", {}, canvas, el("div", { class: "ticks" }, ...ticks), el("figcaption", {}, title, el("small", {}, parts && ` (${parts})`)));
  };
  const card = (s, i) => {
    const side = sides[s], share = side.shares[i].map((v, k) => [side.words[side.reads[i][k]], v]).filter(([, v]) => v >= .005);
    const reads = share.length ? share.flatMap(([word, v]) => [el("code", {}, word), ` ${Math.round(100 * v)} %  `]) : ["nothing but sinks"];
    const words = (list) => list.flatMap((place) => [el("code", {}, side.raised[0][place]), " "]);
    const raises = side.raised?.[1][i].slice(0, share.length).flatMap((places, k) => [el("code", {}, share[k][0]), " → ", ...words(places), el("br")]);
    return el("section", {}, el("h3", {}, name(s, i), el("small", {}, ` ${side.label}, key-value head ${Math.floor((i % side.shape[1]) * side.kv / side.shape[1])}`)),
      el("div", { class: "two" }, numbers(s, i), el("div", {}, profile(s, i), el("h4", {}, "Tokens it reads, without sinks"), el("p", { class: "reads" }, ...reads),
        ...raises?.length ? [el("h4", {}, "What reading them raises", el("small", {}, ", by the values alone")), el("p", { class: "reads" }, ...raises)] : [])),
      el("div", { class: "thumbs" }, ...side.pictures.map((_, j) => thumbnail(s, j, i))));
  };
  const show = () => {
    $(".cards").replaceChildren(...sides.flatMap((_, s) => (s === now || sides.length > 1) && chosen < sizes[s] ? [card(s, chosen)] : []));
    mark();
  };
  const go = (s, i) => { now = s; announce(block, Math.floor(i / sides[s].shape[1]), i % sides[s].shape[1]); };
  onHead(block, (layer, head) => {
    const [layers, heads] = sides[now].shape;
    if (layer < layers && head < heads) { chosen = layer * heads + head; show(); }
  });

  /* ---- selection and files ---- */
  const toggle = () => { picked[now][picked[now].has(chosen) ? "delete" : "add"](chosen); mark(); };
  const heads = (s) => [...picked[s]].sort((a, b) => a - b).map((i) => [Math.floor(i / sides[s].shape[1]), i % sides[s].shape[1]]);
  const files = {
    json: () => ["selection.json", "application/json", JSON.stringify(sides.map((side, s) => ({ model: side.label, score: data.scores[x][0], heads: heads(s), values: heads(s).map(([l, h]) => value(s, x, l * side.shape[1] + h)) })))],
    "scores.json": (s) => ["selection-scores.json", "application/json", JSON.stringify(Object.fromEntries(Array.from({ length: sizes[s] }, (_, i) => [name(s, i).slice(1).replace("H", "-"), [picked[s].has(i) ? 1 : 0]])))],
    DuoAttention: (s) => {
      const { shape: [layers, wide], kv } = sides[s], full = (l, g) => heads(s).some(([a, h]) => a === l && Math.floor(h * kv / wide) === g);
      return ["full_attention_heads.tsv", "text/tab-separated-values", Array.from({ length: layers }, (_, l) => Array.from({ length: kv }, (_, g) => full(l, g) ? "1.0" : "0.0").join("\t") + "\n").join("")];
    },
    QRHead: (s) => ["qrhead.yaml", "text/yaml", `attn_head_set: "${heads(s).map((h) => h.join("-")).join(",")}"\n`],
  };
  $(".hand").addEventListener("click", () => hand(...files[$(".file").value](picked[now].size ? now : picked.findIndex((some) => some.size))));
  $(".export").textContent = data.export;
  $(".toggle").addEventListener("click", toggle);
  $(".none").addEventListener("click", () => { picked.forEach((some) => some.clear()); mark(); });
  $(".top").addEventListener("click", () => {
    const best = [...Array(sizes[now]).keys()].filter((i) => value(now, x, i) !== null).sort((a, b) => value(now, x, b) - value(now, x, a));
    best.slice(0, Math.max(0, Number($(".k").value))).forEach((i) => picked[now].add(i));
    mark();
  });
  maps.forEach((map, s) => {
    const svg = map.querySelector("svg"), [layers, wide] = sides[s].shape, { x: x0, y: y0, w, h } = map.dataset;
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), k = svg.viewBox.baseVal.width / box.width;
      const head = Math.floor(((event.clientX - box.left) * k - x0) / w), layer = Math.floor(((event.clientY - box.top) * k - y0) / h);
      if (head < 0 || layer < 0 || head >= wide || layer >= layers) return;
      go(s, layer * wide + head);
      if (event.shiftKey || event.ctrlKey || event.metaKey) toggle();
    });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide, " ": 0 }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      now = s;
      if (!step) toggle();
      else if (chosen + step >= 0 && chosen + step < sizes[s]) go(s, chosen + step);
    });
  });
  const draw = () => {
    $(".help").textContent = `${titled(data.scores[x])}: ${data.scores[x][3]}; n = ${data.scores[x][4]}.`;
    drawMaps();
    drawCloud();
  };
  for (const [where, set] of [[".x", (v) => { x = v; }], [".y", (v) => { y = v; }]]) $(where).addEventListener("change", ({ target }) => { set(Number(target.value)); draw(); });
  [$(".x").value, $(".y").value] = [x, y];
  const first = sides[0].values[x]?.[0] ?? [];
  chosen = Math.max(0, first.indexOf(Math.max(...first.filter((v) => v !== null))));
  draw();
  show();
  const row = (s, i) => [sides[s].label, ...name(s, i).slice(1).split("H"), ...data.scores.map((_, key) => value(s, key, i))];
  return { csv: () => csvOf([["model", "layer", "head", ...data.scores.map((s) => s[0])], ...sides.flatMap((_, s) => Array.from({ length: sizes[s] }, (_, i) => row(s, i)))]) };
};
