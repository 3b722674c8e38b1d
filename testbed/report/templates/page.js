"use strict";
// A click on a heading of the list of spawns sorts by that column, again: the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const turn = heading.ariaSort === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      heading.ariaSort = turn > 0 ? "ascending" : "descending";
      const word = (row) => row.cells[column].textContent;
      const compare = (a, b) => turn * word(a).localeCompare(word(b), "en", { numeric: true });
      body.append(...[...body.rows].sort(compare));
    });
  });
}
