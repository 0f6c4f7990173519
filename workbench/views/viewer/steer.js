/** Sliders that run an intervention again, and what it changes; `data` is the answer for the first position. */
views.steer = async (block, host) => {
  const [strength, count] = ["strength", "count"].map((name) => block.querySelector(`input.${name}`)), place = block.querySelector(".answer");
  const cells = (row, tag = "td") => el("tr", {}, ...row.map((text, i) => el(tag, { class: i ? "num" : "word" }, String(text))));
  const listed = (title, names, rows) => el("table", {}, el("caption", {}, title), el("thead", {}, cells(names, "th")), el("tbody", {}, ...rows.map((row) => cells(row))));
  const text = (title, words, other) => el("p", {}, el("b", {}, title), ...words.map((word, i) => el(word === other[i] ? "span" : "mark", {}, word)));
  const label = () => {
    const heads = JSON.parse(block.dataset.heads);
    for (const input of [strength, count]) input.parentNode.querySelector("output").textContent = number(Number(input.value), Number.isInteger(Number(input.step)) ? 0 : 2);
    block.querySelector(".heads").textContent = heads.slice(0, count.value).join(" ") || "none";
  };
  const show = (answer) => {
    if (answer.error) { place.replaceChildren(el("p", { class: "note" }, answer.error)); return; }
    place.replaceChildren(
      text("unchanged ", answer.before, answer.before), text("edited ", answer.after, answer.before),
      listed("Next token: logits", ["token", "unchanged", "edited"], answer.logits.map(([word, a, b]) => [word, number(a, 2), number(b, 2)])),
      listed(answer.read, ["token", "position", "unchanged", "edited"], answer.attention.map(([p, word, a, b]) => [word, p.toLocaleString("en"), number(a), number(b)])),
      el("p", { class: "note" }, `${answer.ms} ms`),
    );
    block.dataset.at = `${answer.strength},${answer.count}`;
  };
  const run = async () => {
    label();
    const answer = await host.ask("run", { strength: Number(strength.value), count: Number(count.value) });
    if (answer) show(answer);
  };
  for (const input of [strength, count]) {
    input.disabled = !host;
    if (host) input.addEventListener("input", run);
  }
  label();
  show(await dataOf(block));
};
