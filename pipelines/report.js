"use strict";
// The page reads well without this script: it adds sorting, the pickers and printing.
document.addEventListener("DOMContentLoaded", () => {
  const state = new URLSearchParams(location.hash.slice(1));
  const table = document.querySelector("table.results");
  const pickers = document.querySelectorAll(".picker select");

  const remember = (changes) => {
    for (const [key, value] of Object.entries(changes)) state.set(key, value);
    history.replaceState(null, "", "#" + state);
  };

  // Undefined values stay last in both directions.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };

  const sort = (key, order) => {
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) return;
    const sign = order === "descending" ? -1 : 1;
    const value = (row) => row.cells[column].dataset.value ?? "";
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b), sign));
    table.tBodies[0].append(...rows);
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", order);
  };

  const offer = (head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first;
      const other = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      sort(head.dataset.key, order);
      remember({ sort: head.dataset.key, order });
    });
  };

  const show = (kind, name) => {
    for (const part of document.querySelectorAll(`figure[data-${kind}]`)) {
      part.hidden = name !== "" && part.dataset[kind] !== name;
    }
  };

  if (table) {
    table.querySelectorAll("th[data-key]").forEach(offer);
    if (state.has("sort")) sort(state.get("sort"), state.get("order") ?? "descending");
  }
  for (const picker of pickers) {
    const kind = picker.dataset.shows;
    const names = [...picker.options].map((option) => option.value);
    if (names.includes(state.get(kind))) picker.value = state.get(kind);
    picker.closest(".picker").hidden = false;
    picker.addEventListener("change", () => {
      show(kind, picker.value);
      remember({ [kind]: picker.value });
    });
    show(kind, picker.value);
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of closed) part.open = false;
  });
  document.documentElement.dataset.script = "ready";
});
