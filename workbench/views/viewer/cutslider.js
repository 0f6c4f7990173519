views.cutslider = async (block) => {
  const data = await dataOf(block);
  const [layers, heads] = data.shape, [w, h] = data.cell, [x0, y0] = data.margin, all = layers * heads;
  const find = (name) => block.querySelector(name), cut = find(".cut"), served = find(".served"), which = find(".which");

  /** Measured, or on the line between two measured points: [text, whether it was measured]. */
  const expected = (k) => {
    const above = data.curve.findIndex((point) => point[0] >= k), b = data.curve[above < 0 ? data.curve.length - 1 : above];
    if (b[0] === k || above <= 0) return [interval(b[1], b[2], b[3]), b[0] === k];
    const a = data.curve[above - 1], t = (k - a[0]) / (b[0] - a[0]), mix = (i) => a[i] + t * (b[i] - a[i]);
    return [interval(mix(1), mix(2), mix(3)), false];
  };
  const full = (k) => {
    const on = new Set([...data.fixed, ...data.ranked.slice(0, k)]);
    return Array.from({ length: all }, (_, i) => on.has(i));
  };
  const rows = (on) => Array.from({ length: layers }, (_, i) => on.slice(i * heads, (i + 1) * heads));
  /** The bytes that `workbench export` writes for this cut. */
  const text = (name, on, sparsity) => {
    if (name === "config.json") return data.config.replace("{sparsity}", sparsity);
    if (name.endsWith(".tsv")) return rows(on).map((row) => row.map((x) => `${x ? 1 : 0}.${"0".repeat(18)}e+00`).join("\t") + "\n").join("");
    const listed = rows(on).map((row, i) => [i, row.flatMap((x, j) => (x ? [j] : []))]).filter(([, own]) => own.length);
    return JSON.stringify(Object.fromEntries(listed), null, 3);
  };
  const shown = () => {
    const [k, option, sparsity] = data.stops[cut.value], on = full(k);
    return [k, option, on, text(data.files[which.value], on, sparsity)];
  };
  const draw = () => {
    const [k, option, on, file] = shown(), count = on.filter(Boolean).length, n = Math.max(1, Math.floor(served.value) || 1);
    const kept = count * n + (all - count) * Math.min(n, data.sink + data.recent), [recall, measured] = expected(k);
    const box = (i, inside) => `M${x0 + (i % heads) * w + inside} ${y0 + Math.floor(i / heads) * h + inside}h${w - 2 * inside}v${h - 2 * inside}h-${w - 2 * inside}z`;
    const boxes = (kind, inside) => on.flatMap((x, i) => (x === kind ? [box(i, inside)] : [])).join("");
    find(".streams").setAttribute("d", boxes(false, 0));
    find(".kept").setAttribute("d", boxes(true, 1));
    find(".readout").textContent = `${count} of ${all} key-value heads full, ${(100 * kept / (all * n)).toFixed(1)} % of the cache, expected recall ${recall}`;
    const facts = [
      ["cut", option], ["full, streaming", `${count}, ${all - count}`], ["entries kept", `${kept.toLocaleString("en")} of ${(all * n).toLocaleString("en")}`],
      ["a streaming head keeps", `${data.sink} first and ${data.recent} last tokens`],
      ["expected recall", `${recall} (${measured ? "measured" : "between measured points"})`],
    ];
    find(".facts").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    find(".line code").textContent = data.command.replace("{option}", option);
    find(".file").textContent = file;
  };
  for (const input of [cut, served, which]) input.addEventListener("input", draw);
  find(".keep").addEventListener("click", () => {
    const name = data.files[which.value];
    hand(name, name.endsWith(".tsv") ? "text/tab-separated-values" : "application/json", shown()[3]);
  });
  draw();
};
