views.table = (block) => {
  const body = block.querySelector("tbody");
  const headers = [...block.querySelectorAll("thead th")];
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const numeric = header.classList.contains("num");
    const before = header.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    headers.forEach((h) => h.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows];
    const open = rows.filter((row) => !row.hidden).length;
    const key = (row) => row.cells[column].dataset.key;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y);
      return down ? -order : order;
    });
    rows.forEach((row, place) => { row.hidden = place >= open; });
    body.append(...rows);
  }));
  const more = block.querySelector("button.more");
  more?.addEventListener("click", () => { for (const row of body.rows) row.hidden = false; more.remove(); });
  block.addEventListener("click", (event) => {
    const link = event.target.closest("[data-head]");
    if (link) announce(block, ...link.dataset.head.split(".").map(Number));
  });
};
