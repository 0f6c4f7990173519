views.attention = async (block) => {
  const details = block.querySelector("details");
  details.addEventListener("toggle", async () => {
    if (!details.open || details.dataset.drawn) return;
    details.dataset.drawn = "true";
    const [data] = await Promise.all([dataOf(block), library("circuitsvis")]);
    const place = block.querySelector(".circuitsvis");
    place.id = `circuitsvis-${[...document.querySelectorAll(".circuitsvis")].indexOf(place)}`;
    CircuitsVis.render(place.id, CircuitsVis.AttentionPatterns, data);
  });
  const rows = ({ attention, headLabels }) => attention.flatMap((head, h) => head.flatMap((row, q) => row.map((w, k) => [headLabels[h], q, k, w])));
  return { csv: async () => csvOf([["head", "query", "key", "weight"], ...rows(await dataOf(block))]) };
};
