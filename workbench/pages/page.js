for (const map of document.querySelectorAll("figure.heads")) {
  const out = map.querySelector("output"), data = JSON.parse(map.querySelector("script").textContent);
  const show = (cell) => { out.textContent = data[cell.dataset.key] || ""; };
  for (const cell of map.querySelectorAll("rect.cell")) {
    cell.addEventListener("click", () => show(cell));
    cell.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); show(cell); } });
  }
}
