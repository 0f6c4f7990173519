/** Starts every block under `root`; `data-ready` on the document's element says that all have been drawn.

    host: in a notebook, the way to the kernel: { ask(name, request) -> promise of its answer }. A page has none, and
    keeps the chosen head in its address instead. */
export async function mount(root, host = null) {
  const blocks = [...root.querySelectorAll("[data-block]")];
  await Promise.all(blocks.map(async (block) => saves(block, await views[block.dataset.block]?.(block, host))));
  if (!host) {
    const follow = () => { if (linked()) announce(document.body, ...linked()); };
    follow();
    addEventListener("hashchange", follow);
    document.addEventListener(CHOSEN, ({ detail }) => history.replaceState(null, "", `#L${detail.layer}H${detail.head}`));
  }
  document.documentElement.dataset.ready = "true";
}
