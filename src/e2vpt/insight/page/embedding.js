"use strict";
// The same picture in every plot, by its place in the list; classes that are chosen alone.
const data = JSON.parse(document.getElementById("data").textContent);
const told = document.getElementById("told");
const plots = [...document.querySelectorAll(".plot svg")].map((svg) => [...svg.querySelectorAll("use")]);
const chosen = new Set();
let current = -1;

function tell(index) {
  for (const marks of plots) {
    if (current >= 0) marks[current].classList.remove("here");
    marks[index].classList.add("here");
  }
  current = index;
  told.textContent = `${data.files[index]}: ${data.classes[data.places[index]]}`;
}

const isShown = (index) => !chosen.size || chosen.has(data.places[index]);

function step(by) {
  const count = data.files.length;
  let next = current;
  for (let tries = 0; tries < count; tries += 1) {
    next = next < 0 ? (by > 0 ? 0 : count - 1) : (next + by + count) % count;
    if (isShown(next)) return tell(next);
  }
}

for (const marks of plots) {
  const svg = marks[0].ownerSVGElement;
  for (const kind of ["pointerover", "click"]) {
    svg.addEventListener(kind, (event) => {
      const index = marks.indexOf(event.target.closest("use"));
      if (index >= 0) tell(index);
    });
  }
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible") && current < 0) step(1); });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
}

for (const button of document.querySelectorAll("[data-class]")) {
  button.addEventListener("click", () => {
    const place = Number(button.dataset.class);
    if (!chosen.delete(place)) chosen.add(place);
    button.setAttribute("aria-pressed", String(chosen.has(place)));
    for (const marks of plots) marks.forEach((mark, index) => mark.classList.toggle("away", !isShown(index)));
  });
}
