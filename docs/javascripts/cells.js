// Sorts and filters the table of all cells. Without this script the table is a plain one.
"use strict";
{
  const table = document.querySelector("table.cells");
  const form = document.querySelector("form.cells");

  const rowsOf = () => [...table.tBodies[0].rows];

  const value = (row, column) => {
    const text = row.cells[column].dataset.value;
    return text === "" || isNaN(text) ? text : Number(text);
  };

  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));

  const sortBy = (head) => {
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    const sign = down ? -1 : 1;
    const rows = rowsOf().sort((a, b) => sign * compare(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const fits = (row, wanted) =>
    row.cells[0].textContent.toLowerCase().includes(wanted.text.toLowerCase()) &&
    (!wanted.family || row.dataset.family === wanted.family) &&
    (!wanted.operator || row.dataset.operator === wanted.operator) &&
    (!wanted.weights || Number(row.dataset.weights) <= Number(wanted.weights)) &&
    (!wanted.states || Math.min(3, row.dataset.states) === Number(wanted.states)) &&
    (!wanted.parallel || row.dataset.parallel !== "");

  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    for (const row of rowsOf()) row.hidden = !fits(row, wanted);
    const left = rowsOf().filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = `${left} of ${rowsOf().length}`;
  };

  // A link may choose: ../cells/?operator=GRU&weights=0.5&sort=onnx&drawings=1
  const followLink = () => {
    for (const [name, wanted] of new URLSearchParams(location.search)) {
      const field = form.elements[name];
      if (field && field.type === "checkbox") field.checked = wanted !== "";
      else if (field) field.value = wanted;
      const head = name === "sort" && table.querySelector(`th[data-key="${CSS.escape(wanted)}"]`);
      if (head) sortBy(head);
    }
  };

  if (table && form) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(head));
      head.append(button);
    }
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    followLink();
    filter();
  }
}
