"use strict";
// A click on a heading of the list of spawns sorts by that column, again: the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    const word = (row) => row.cells[column].textContent;
    // What was not reached comes after all numbers.
    const number = (row) => (isNaN(word(row)) ? Infinity : Number(word(row)));
    const compare = heading.classList.contains("n")
      ? (a, b) => (number(a) === number(b) ? 0 : number(a) - number(b))
      : (a, b) => word(a).localeCompare(word(b), "en", { numeric: true });
    button.addEventListener("click", () => {
      const turn = heading.ariaSort === "ascending" ? -1 : 1;
      for (const other of headings) other.ariaSort = null;
      heading.ariaSort = turn > 0 ? "ascending" : "descending";
      body.append(...[...body.rows].sort((a, b) => turn * compare(a, b)));
    });
  });
}
