views.circuit = (block) => {
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
    announce(block, ...node.dataset.head.split(".").map(Number));
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
  onHead(block, (layer, head) => {
    if (!own) choose(nodes.filter((node) => node.dataset.head === `${layer}.${head}`));
  });
  box.scrollLeft = box.scrollWidth;
  say();
};
