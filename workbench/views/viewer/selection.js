/** A list of heads that the reader picks: the chosen head is added or taken out; a notebook gets the list. */
views.selection = (block, host) => {
  const toggle = block.querySelector("button.toggle"), clear = block.querySelector("button.clear"), list = block.querySelector(".list");
  let heads = JSON.parse(block.dataset.heads), chosen = null;
  const name = ([layer, head]) => `L${layer}H${head}`, held = () => heads.some((h) => chosen && name(h) === name(chosen));
  const show = (tell = true) => {
    list.replaceChildren(...heads.map((h) => {
      const button = el("button", { type: "button" }, name(h));
      button.addEventListener("click", () => announce(block, ...h));
      return button;
    }));
    toggle.disabled = !chosen;
    toggle.textContent = chosen ? `${held() ? "Remove" : "Add"} ${name(chosen)}` : "Choose a head";
    if (tell) host?.tell("heads", heads);
  };
  toggle.addEventListener("click", () => { heads = held() ? heads.filter((h) => name(h) !== name(chosen)) : [...heads, chosen]; show(); });
  clear.addEventListener("click", () => { heads = []; show(); });
  onHead(block, (layer, head) => { chosen = [layer, head]; show(false); });
  block.addEventListener(PICKED, ({ detail }) => { heads = detail; show(false); });
  show(false);
};
