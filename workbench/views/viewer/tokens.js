views.tokens = async (block) => {
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
    const flip = Number(styled("--heat-flip", block));
    for (const span of spans) {
      const share = (weights.get(Number(span.dataset.p)) ?? 0) / top;
      heat(span, share, flip);
      span.classList.toggle("reader", Number(span.dataset.p) === data.positions[row.value]);
    }
    block.querySelector(".top").textContent = number(top);
    const best = [...weights].sort((a, b) => b[1] - a[1]).filter(([, v]) => v >= 0.0005).slice(0, 10);
    list.replaceChildren(keyTable(best.map(([p, v]) => [p, data.texts[p], v, spanOf(p)])));
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
  onScheme(draw);
  onHead(block, (layer, chosen) => {
    const option = [...head.options].find((o) => o.text === `L${layer}H${chosen}`);
    if (option) { head.value = option.value; draw(); }
  });
  draw();
  const mark = box.querySelector(".span0");
  if (mark) box.scrollTop = mark.offsetTop - box.offsetTop - box.clientHeight / 3;
  return { csv: () => csvOf([["position", "token", "weight", "part"], ...[...weights].map(([p, v]) => [p, data.texts[p], v, spanOf(p)])]) };
};
