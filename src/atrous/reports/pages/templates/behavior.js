"use strict";

// Columns of tables are sorted by the buttons in their heads; cells say what they are sorted by in data-value.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return numbers ? x - y : x.localeCompare(y);
      };
      const rows = [...body.rows].sort(compare);
      (descending ? rows.reverse() : rows).forEach((row) => body.append(row));
    });
  });
}

// Rows and columns of the confusion matrix come in the same order.
const matrix = document.getElementById("confusion-matrix");
const order = document.getElementById("confusion-order");
if (matrix && order) {
  order.addEventListener("change", () => {
    const rows = [...matrix.tBodies[0].rows].sort((a, b) => a.dataset.index - b.dataset.index);
    const places = rows.map((_, index) => index);
    const by = { pixels: (i) => -rows[i].dataset.pixels, right: (i) => +rows[i].dataset.right, order: (i) => i };
    if (order.value === "name") {
      places.sort((a, b) => rows[a].cells[0].textContent.localeCompare(rows[b].cells[0].textContent));
    } else {
      places.sort((a, b) => by[order.value](a) - by[order.value](b) || a - b);
    }
    const reorder = (row) => {
      const cells = [...row.cells].slice(1).sort((a, b) => a.dataset.column - b.dataset.column);
      places.forEach((place) => row.append(cells[place]));
    };
    reorder(matrix.tHead.rows[0]);
    places.forEach((place) => matrix.tBodies[0].append(rows[place]));
    rows.forEach(reorder);
  });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange(); // a file that is opened from a disk has no clipboard everywhere
      range.selectNodeContents(document.getElementById(button.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return;
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
