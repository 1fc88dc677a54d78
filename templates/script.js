"use strict";

/* Charts: each is drawn when it comes near the window, in place of the picture that stands there without scripts. */
const options = {
  mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
  config: JSON.parse(document.getElementById("chart-config").textContent),
};

async function draw(chart) {
  const spec = JSON.parse(chart.nextElementSibling.textContent);
  const live = document.createElement("div");
  live.className = "live drawing";
  live.ariaHidden = "true"; // the chart around it has the label
  chart.append(live);
  await vegaEmbed(live, { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } }, options);
  live.className = "live";
  chart.replaceChildren(live);
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) { near.unobserve(target); draw(target); }
  }
}, { rootMargin: "400px" });
document.querySelectorAll(".chart").forEach((chart) => near.observe(chart));

/* Tables: a click on a heading sorts, another one turns the order round. What is no number comes last. */
function sortBy(table, heading, column) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const numbers = heading.classList.contains("n");
  const key = (row) => {
    const text = row.cells[column].textContent.trim();
    return numbers ? parseFloat(text.replace("−", "-").replace(/^[^\d.-]+/, "")) : text;
  };
  const compare = (a, b) => {
    if (!numbers) return a.localeCompare(b, "en", { numeric: true });
    return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : a - b;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (ascending || Number.isNaN(a) || Number.isNaN(b) ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.append(button);
  });
}

/* Configs: copied by a button; where the clipboard is out of reach, selected for the reader to copy. */
for (const button of document.querySelectorAll(".config button")) {
  const code = button.nextElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

/* Filters: what belongs to another model or task is hidden, and so is a section that has nothing left. */
const form = document.getElementById("filters");
if (form) {
  form.hidden = false;
  form.addEventListener("change", () => {
    const wanted = Object.fromEntries(new FormData(form));
    const fits = (element) => Object.entries(wanted).every(
      ([name, value]) => !value || !(name in element.dataset) || element.dataset[name] === value);
    const tagged = (root) => [...root.querySelectorAll("[data-model], [data-task]")];
    for (const element of tagged(document)) element.classList.toggle("filtered", !fits(element));
    for (const section of document.querySelectorAll("section")) {
      const empty = tagged(section).length > 0 && tagged(section).every((element) => element.matches(".filtered"));
      section.classList.toggle("filtered", empty);
      document.querySelector(`nav a[href="#${section.id}"]`).classList.toggle("filtered", empty);
    }
  });
}
