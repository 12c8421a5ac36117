// One player per arm; the buttons above it choose the clip, the choice beside them what stands on the left.
for (const part of document.querySelectorAll(".examples")) {
  const root = part.querySelector(".player"), { sets } = players[Number(part.dataset.number)];
  const buttons = [...part.querySelectorAll("[data-set]")];
  let chosen = 0;
  const watch = (number) => {
    chosen = number;
    for (const one of buttons) one.setAttribute("aria-pressed", String(Number(one.dataset.set) === number));
    part.querySelector(".chosen").textContent = sets[number].told;
    open(root).show(sets[number][part.querySelector(".against input:checked").value], sets[number].arm);
  };
  for (const one of buttons) one.addEventListener("click", () => watch(Number(one.dataset.set)));
  for (const input of part.querySelectorAll(".against input")) input.addEventListener("change", () => watch(chosen));
  buttons.find((one) => Number(one.dataset.set) === 0)?.setAttribute("aria-pressed", "true");
}
