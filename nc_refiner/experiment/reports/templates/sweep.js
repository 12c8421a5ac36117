// A point of the picture, a tile of a heat map, a button of the front: each shows its setting in the one player.
const root = document.getElementById("sweep-player");
const buttons = [...document.querySelectorAll("[data-point]")];
const checked = (name) => document.querySelector(`.${name} input:checked`)?.value;
const names = new Map();
for (const one of document.querySelectorAll(".scatter [data-point]")) names.set(one.dataset.point, one.getAttribute("aria-label"));
let chosen = null;

for (const input of document.querySelectorAll(".metric input")) {
  input.addEventListener("change", () => {
    for (const part of document.querySelectorAll(".grid-of")) part.hidden = part.dataset.metric !== input.value;
  });
}

const watch = (point) => {
  chosen = point;
  for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.point === point));
  if (!root) return;
  const data = players[0], clip = checked("clip") ?? Object.keys(data.found)[0];
  const there = data.found[clip] ?? {}, base = data.base[point] ?? {};
  const left = there[base[checked("against")]] ?? there[base.SDEdit] ?? there[base.input];
  const told = document.querySelector(".chosen");
  const right = there[point];
  if (right === undefined) { told.textContent = `${names.get(point) ?? "This setting"}: no output of ${clip} is in this file.`; return; }
  told.textContent = names.get(point) ?? data.clips[right].label;
  const player = open(root);
  player.show(left ?? right, right);
};

for (const one of buttons) {
  const act = () => {
    watch(one.dataset.point);
    if (root && !one.closest("#watch")) document.getElementById("watch").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  one.addEventListener("click", act);
  if (one.tagName !== "BUTTON") {
    one.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act();
    });
  }
}
for (const input of document.querySelectorAll(".clip input, .against input")) input.addEventListener("change", () => watch(chosen));

if (root) {
  const first = document.querySelector("#watch button[data-point]") ?? buttons.find((one) => players[0].base[one.dataset.point]?.SDEdit !== null) ?? buttons[0];
  if (first) watch(first.dataset.point);
}
