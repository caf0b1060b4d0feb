"use strict";
// Sort, filter and enlarge the panels; without this script all of them are simply there.
const FEW = 12;

for (const form of document.querySelectorAll(".controls")) {
  const holder = form.parentElement.querySelector(".panels");
  const more = form.parentElement.querySelector(".more");
  const drawn = Array.from(holder.children);
  const scoreOf = (panel, name) => JSON.parse(panel.dataset.scores)[name];
  let limit = FEW;

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
    let found = 0;
    for (const panel of ordered(form.elements.order.value)) {
      const fits = (!tag || JSON.parse(panel.dataset.tags).includes(tag)) && (!list || panel.dataset.list === list);
      found += fits ? 1 : 0;
      panel.hidden = !fits || found > limit;
      holder.append(panel);
    }
    form.querySelector("output").textContent = `${Math.min(found, limit)} of ${found} photos`;
    more.hidden = found <= limit;
  }

  form.addEventListener("change", () => {
    limit = FEW;
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    limit += 2 * FEW;
    update();
  });
  form.hidden = false;
  update();
}

// A click enlarges a picture; the arrow keys then step through the pictures of its photo, all in the same place.
const dialog = document.createElement("dialog");
const large = document.createElement("img");
const words = document.createElement("p");
dialog.append(large, words);
document.body.append(dialog);
let pictures = [];
let place = 0;

function enlarge(to) {
  place = (to + pictures.length) % pictures.length;
  large.src = pictures[place].src;
  large.alt = pictures[place].alt;
  words.textContent = `${large.alt} · ${place + 1} of ${pictures.length}, ← → for the others`;
}

for (const button of document.querySelectorAll(".strip button")) {
  button.addEventListener("click", () => {
    pictures = Array.from(button.closest(".panel").querySelectorAll("img"));
    enlarge(pictures.indexOf(button.firstElementChild));
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => {
  if (event.target !== large) dialog.close();
  else enlarge(place + 1);
});
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) enlarge(place + step);
});
