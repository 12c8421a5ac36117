// The plots of a group show where its player stands.
for (const root of document.querySelectorAll(".player")) {
  const pictures = [...root.closest(".group").querySelectorAll(".plot")];
  root.addEventListener("frame", (event) => {
    const { frame, frames } = event.detail;
    for (const picture of pictures) {
      const left = Number(picture.dataset.left), right = Number(picture.dataset.right);
      const x = left + (right - left) * (frames > 1 ? frame / (frames - 1) : 0.5);
      const line = picture.querySelector(".cursor");
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
  });
}
