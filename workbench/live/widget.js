/* The viewer in a notebook: a block in its own shadow, its questions sent to the kernel, what the reader chose sent back. */

/** The way to the kernel. Of the requests of one name that come while one is under way only the newest is sent; the
    others are answered with null. */
function hostOf(model) {
  const waiting = new Map(), lanes = new Map();
  let count = 0;
  model.on("msg:custom", ({ id, answer }, buffers) => {
    const bytes = buffers?.[0];
    waiting.get(id)?.({ ...answer, bytes: bytes && new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength) });
    waiting.delete(id);
  });
  const send = (name, request) => new Promise((done) => { waiting.set(++count, done); model.send({ id: count, name, request }); });
  const run = async (name, lane) => {
    while (lane.next) {
      const { request, done } = lane.next;
      lane.next = null;
      done(await send(name, request));
    }
    lanes.delete(name);
  };
  return {
    ask: (name, request) => new Promise((done) => {
      const lane = lanes.get(name);
      if (lane) { lane.next?.done(null); lane.next = { request, done }; return; }
      lanes.set(name, { next: { request, done } });
      run(name, lanes.get(name));
    }),
    tell: (name, value) => { model.set(name, value); model.save_changes(); },
  };
}

/** Dark or light as the notebook is, where it says so (JupyterLab, VS Code), else as the system is. */
function follows(place) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    const { jpThemeLight: light, vscodeThemeKind: kind } = document.body.dataset;
    const dark = light ? light === "false" : kind ? kind.includes("dark") || kind === "vscode-high-contrast" : system.matches;
    place.classList.toggle("dark", dark);
    place.style.colorScheme = dark ? "dark" : "light";
    dispatchEvent(new Event(SCHEME));
  };
  set();
  system.addEventListener("change", set);
  new MutationObserver(set).observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"] });
}

/** A notebook takes arrows and letters for its cells: what is typed here stays here, but for Ctrl, Alt, Meta and Shift-Enter. */
const keeps = (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey && !(event.shiftKey && event.key === "Enter")) event.stopPropagation(); };

async function render({ model, el: place }) {
  const held = new DOMParser().parseFromString(model.get("html"), "text/html"), host = hostOf(model);
  const page = el("div", { class: "page", "data-workbench": "" }, ...held.body.childNodes);
  follows(place);
  place.attachShadow({ mode: "open" }).append(el("style", {}, STYLE), page);
  page.addEventListener("keydown", keeps);
  page.addEventListener(CHOSEN, ({ detail }) => host.tell("chosen", [detail.layer, detail.head]));
  const follow = () => { if (model.get("chosen").length) announce(page.firstElementChild, ...model.get("chosen")); };
  const list = page.querySelector("[data-block=selection]"), picked = () => JSON.stringify(model.get("heads"));
  if (list) list.dataset.heads = picked();
  onHead(page, (layer, head) => { page.shown = [layer, head]; });
  await mount(page, host);
  const first = page.querySelector(".map")?.dataset.chosen?.split(".").map(Number);
  if (model.get("chosen").length) follow();
  else if (first) announce(page.firstElementChild, ...first);
  model.on("change:heads", () => list?.dispatchEvent(new CustomEvent(PICKED, { detail: JSON.parse(picked()) })));
  model.on("change:chosen", () => { if (String(model.get("chosen")) !== String(page.shown)) follow(); });
}

export default { render };
