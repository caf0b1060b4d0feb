"use strict";
// Sort and filter the panels; without this script all of them are simply there.
for (const form of document.querySelectorAll(".controls")) {
  const holder = form.parentElement.querySelector(".panels");
  const drawn = Array.from(holder.children);
  const scoreOf = (panel, name) => JSON.parse(panel.dataset.scores)[name];

  function ordered(order) {
    if (order === "") return drawn;
    if (order === "name") return [...drawn].sort((a, b) => a.dataset.name.localeCompare(b.dataset.name));
    const sign = order.startsWith("-") ? -1 : 1;
    const name = sign < 0 ? order.slice(1) : order;
    const scored = drawn.filter((panel) => scoreOf(panel, name) !== undefined);
    scored.sort((a, b) => sign * (scoreOf(a, name) - scoreOf(b, name)));
    return [...scored, ...drawn.filter((panel) => scoreOf(panel, name) === undefined)];
  }

  function update() {
    const tag = form.elements.tag.value;
    const list = form.elements.list ? form.elements.list.value : "";
    let shown = 0;
    for (const panel of ordered(form.elements.order.value)) {
      const hidden = (tag && !JSON.parse(panel.dataset.tags).includes(tag)) || (list && panel.dataset.list !== list);
      panel.hidden = Boolean(hidden);
      shown += hidden ? 0 : 1;
      holder.append(panel);
    }
    form.querySelector("output").textContent = `${shown} of ${drawn.length} photos`;
  }

  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
