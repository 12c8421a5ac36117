// How much the picture changed: a strip over time for every output, a map over the frame, one scale of colour for both.
const STOPS = [[38, 52, 110], [49, 104, 142], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const colour = (share) => {
  const place = clamp(share, 0, 1) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[low].map((value, i) => Math.round(value + (STOPS[low + 1][i] - value) * (place - low)));
};
const css = (share) => `rgb(${colour(share).join(",")})`;
// Differences come as a share of the whole range; people know them as levels of 255.
const words = (value) => (value * 255 >= 9.95 ? (value * 255).toFixed(0) : (value * 255).toFixed(1));
const PLACES = [["top left", "top", "top right"], ["left", "middle", "right"], ["bottom left", "bottom", "bottom right"]];

class ChangeMap {
  constructor(player) {
    this.player = player;
    this.outputs = player.clips;
    // One scale: what every strip and the map show at full colour. The root brings out small changes.
    this.scale = player.data.scale || 1;
    for (const clip of this.outputs) clip.drift.levels = decode(clip.drift.levels);
    this.map = player.find(".map");
    this.cell = player.find(".cell");
    this.strips = [...player.root.querySelectorAll(".strip")];
    this.block = [0, 0];
    for (const strip of this.strips) this.listenStrip(strip, Number(strip.dataset.output));
    this.listenMap();
    this.paintLegend();
    new ResizeObserver(() => this.paint()).observe(player.root);
  }

  get clip() { return this.player.clip; }

  share(value) { return Math.sqrt(value / this.scale); }

  listenStrip(strip, number) {
    const go = (event) => {
      const box = strip.getBoundingClientRect();
      const share = clamp((event.clientX - box.left) / box.width, 0, 1 - 1e-9);
      this.to(number, Math.floor(share * this.outputs[number].frames));
    };
    strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); go(event); });
    strip.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    strip.addEventListener("keydown", (event) => {
      const last = this.outputs[number].frames - 1, now = this.player.frame;
      const page = Math.max(1, Math.round(last / 10));
      const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
        PageDown: now - page, PageUp: now + page, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.to(number, to);
    });
  }

  listenMap() {
    this.map.addEventListener("click", (event) => {
      const { rows, columns } = this.clip.drift;
      const box = this.map.getBoundingClientRect();
      this.block = [
        clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), 0, rows - 1),
        clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), 0, columns - 1),
      ];
      this.player.seek(this.frameOf(this.worst(...this.block)));
    });
    this.map.addEventListener("keydown", (event) => {
      const { rows, columns } = this.clip.drift;
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step && event.key !== "Enter") return;
      event.preventDefault();
      if (step) {
        this.block = [clamp(this.block[0] + step[0], 0, rows - 1), clamp(this.block[1] + step[1], 0, columns - 1)];
        this.paint();
      } else this.player.seek(this.frameOf(this.worst(...this.block)));
    });
    for (const name of ["focus", "blur"]) this.map.addEventListener(name, () => this.paint());
  }

  to(number, frame) {
    if (number !== this.player.right) this.player.show(this.player.left, number);
    this.player.seek(frame);
  }

  // A bin holds one frame, or several of a long clip.
  bin(frame, clip = this.clip) { return Math.min(clip.drift.bins - 1, Math.floor((frame * clip.drift.bins) / clip.frames)); }

  frameOf(bin) { return Math.ceil((bin * this.clip.frames) / this.clip.drift.bins); }

  value(bin, row, column) {
    const { rows, columns, levels } = this.clip.drift;
    return (levels[(bin * rows + row) * columns + column] / 255) * this.scale;
  }

  worst(row, column) {
    let best = 0;
    for (let bin = 1; bin < this.clip.drift.bins; bin++) if (this.value(bin, row, column) > this.value(best, row, column)) best = bin;
    return best;
  }

  shown() {
    const { overall } = this.clip.drift;
    const order = overall.map((value, bin) => [value, bin]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    const list = this.player.find(".moments");
    list.replaceChildren(`${this.clip.label} changed most at`);
    for (const [value, bin] of order) {
      const button = document.createElement("button");
      const frame = this.frameOf(bin);
      button.type = "button";
      button.textContent = `frame ${frame + 1} (${words(value)})`;
      button.addEventListener("click", () => this.player.seek(frame));
      list.append(button);
    }
  }

  paint() {
    for (const strip of this.strips) this.paintStrip(strip);
    this.paintMap();
  }

  paintStrip(strip) {
    const clip = this.outputs[Number(strip.dataset.output)], { bins, overall } = clip.drift, frame = this.player.frame;
    const wide = Math.max(1, Math.round(strip.clientWidth * devicePixelRatio));
    const high = Math.max(1, Math.round(strip.clientHeight * devicePixelRatio));
    strip.width = wide;
    strip.height = high;
    const pen = strip.getContext("2d");
    for (let bin = 0; bin < bins; bin++) {
      const from = Math.round((bin * wide) / bins), to = Math.round(((bin + 1) * wide) / bins);
      const share = this.share(overall[bin]), tall = Math.round(share * (high - 3)) + 3;
      pen.fillStyle = css(share);
      pen.fillRect(from, high - tall, Math.max(1, to - from - (bins < 60 ? 1 : 0)), tall);
    }
    pen.fillStyle = "#fff";
    pen.fillRect(Math.round(((frame + 0.5) / clip.frames) * wide) - 1, 0, 2, high);
    strip.setAttribute("aria-valuemax", clip.frames);
    strip.setAttribute("aria-valuenow", Math.min(frame, clip.frames - 1) + 1);
    strip.setAttribute("aria-valuetext", `frame ${frame + 1}: changed by ${words(overall[this.bin(frame, clip)])} of 255 levels`);
  }

  paintMap() {
    const { rows, columns, overall } = this.clip.drift, bin = this.bin(this.player.frame), here = this.player.layout === "where";
    const map = this.map, [blockRow, blockColumn] = this.block = [Math.min(this.block[0], rows - 1), Math.min(this.block[1], columns - 1)];
    map.hidden = !here;
    map.width = columns;
    map.height = rows;
    const pen = map.getContext("2d"), picture = pen.createImageData(columns, rows);
    let most = -1, place = [0, 0];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = this.value(bin, row, column), share = this.share(value);
        if (value > most) { most = value; place = [row, column]; }
        // Where nothing changed, the picture itself is seen.
        picture.data.set([...colour(share), Math.round(20 + 180 * Math.min(1, share))], 4 * (row * columns + column));
      }
    }
    pen.putImageData(picture, 0, 0);
    map.dataset.row = place[0];
    map.dataset.column = place[1];
    const third = (at, of) => Math.min(2, Math.floor((3 * (at + 0.5)) / of));
    const focused = here && document.activeElement === map;
    this.cell.hidden = !focused;
    Object.assign(this.cell.style, { left: `${(100 * blockColumn) / columns}%`, top: `${(100 * blockRow) / rows}%`, width: `${100 / columns}%`, height: `${100 / rows}%` });
    const at = `Frame ${this.player.frame + 1} of ${this.clip.label}: the picture changed by ${words(overall[bin])} of 255 levels on average`;
    const where = `, most at the ${PLACES[third(place[0], rows)][third(place[1], columns)]}, by ${words(most)}.`;
    this.player.find(".map-caption").textContent = at + (most > 0 ? where : ".");
    const block = `block in row ${blockRow + 1}, column ${blockColumn + 1} of ${rows} × ${columns}: changed by ${words(this.value(bin, blockRow, blockColumn))} of 255 levels`;
    map.setAttribute("aria-label", `map of change; arrow keys choose a block, Enter goes to the moment it changed most; ${block}`);
  }

  paintLegend() {
    const pen = this.player.find(".legend").getContext("2d");
    for (let x = 0; x < 256; x++) { pen.fillStyle = css(x / 255); pen.fillRect(x, 0, 1, 1); }
    this.player.find(".scale-middle").textContent = `by ${words(this.scale / 4)}`;
    this.player.find(".scale-top").textContent = `by ${words(this.scale)} of 255 levels`;
  }
}
