"use strict";
(() => {
  const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const colour = (level) => {
    const place = Math.min(1, Math.max(0, level)) * (STOPS.length - 1);
    const low = Math.min(STOPS.length - 2, Math.floor(place));
    return STOPS[low].map((value, i) => Math.round(value + (STOPS[low + 1][i] - value) * (place - low)));
  };
  const css = (level) => `rgb(${colour(level).join(",")})`;
  const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const blobs = new Map();
  // A video is decoded once and kept as a blob: seeking in a data: address would parse all of it again.
  const address = (key) => {
    if (!blobs.has(key)) {
      const holder = document.getElementById(key);
      blobs.set(key, URL.createObjectURL(new Blob([decode(holder.textContent)], { type: "video/mp4" })));
    }
    return blobs.get(key);
  };

  class Viewer {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.outputs = data.outputs;
      for (const output of this.outputs) output.drift.levels = decode(output.drift.levels);
      this.find = (name) => root.querySelector(name);
      this.stage = this.find(".stage");
      [this.before, this.after] = root.querySelectorAll("video");
      this.time = this.find(".time");
      this.strips = [...root.querySelectorAll(".strip")];
      this.cursors = [...root.querySelectorAll(".plot")];
      this.frame = 0;
      this.chosen = 0;
      this.playing = false;
      this.find(".viewer").hidden = false;
      this.find(".drift").hidden = false;
      this.listen();
      this.paintLegend();
      this.choose(0);
    }

    get output() { return this.outputs[this.chosen]; }

    get videos() { return [this.before, this.after].filter((video) => video.src && !video.error); }

    listen() {
      for (const input of this.root.querySelectorAll(".outputs input")) {
        input.addEventListener("change", () => this.choose(Number(input.value)));
      }
      for (const input of this.root.querySelectorAll(".layout input")) {
        input.addEventListener("change", () => this.arrange(input.value));
      }
      this.find(".show-drift").addEventListener("change", () => this.paint());
      this.find(".play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
      this.find(".back").addEventListener("click", () => this.seek(this.frame - 1));
      this.find(".forward").addEventListener("click", () => this.seek(this.frame + 1));
      this.time.addEventListener("input", () => this.seek(Number(this.time.value)));
      const wipe = this.find(".wipe-position");
      wipe.addEventListener("input", () => this.wipe(Number(wipe.value)));
      const drag = (event) => {
        if (!this.stage.classList.contains("wipe") || !event.buttons) return;
        const box = this.stage.getBoundingClientRect();
        wipe.value = clamp(((event.clientX - box.left) / box.width) * 100, 0, 100);
        this.wipe(Number(wipe.value));
      };
      this.stage.addEventListener("pointerdown", (event) => { this.stage.setPointerCapture(event.pointerId); drag(event); });
      this.stage.addEventListener("pointermove", drag);
      for (const video of [this.before, this.after]) {
        video.addEventListener("error", () => this.tell("This browser cannot play H.264 video; table, plots and drift map work without."));
        video.addEventListener("loadeddata", () => this.place());
      }
      for (const strip of this.strips) {
        const number = Number(strip.dataset.output);
        const go = (event) => {
          const box = strip.getBoundingClientRect();
          const share = clamp((event.clientX - box.left) / box.width, 0, 1 - 1e-9);
          this.choose(number);
          this.seek(Math.floor(share * this.outputs[number].frames));
        };
        strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); go(event); });
        strip.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
        strip.addEventListener("keydown", (event) => {
          const last = this.outputs[number].frames - 1;
          const page = Math.max(1, Math.round(last / 10));
          const to = { ArrowLeft: this.frame - 1, ArrowDown: this.frame - 1, ArrowRight: this.frame + 1, ArrowUp: this.frame + 1,
            PageDown: this.frame - page, PageUp: this.frame + page, Home: 0, End: last }[event.key];
          if (to === undefined) return;
          event.preventDefault();
          this.choose(number);
          this.seek(to);
        });
      }
      this.find(".map").addEventListener("click", (event) => {
        const { rows, columns } = this.output.drift;
        const box = event.currentTarget.getBoundingClientRect();
        const column = clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), 0, columns - 1);
        const row = clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), 0, rows - 1);
        this.seek(this.frameOf(this.worst(row, column)));
      });
      new ResizeObserver(() => this.paint()).observe(this.root);
    }

    choose(number) {
      const changed = this.chosen !== number || !this.after.dataset.ready;
      this.chosen = number;
      if (!changed) return;
      this.pause();
      const { reference, video, frames, size, label } = this.output;
      const load = (player, key) => {
        if (player.dataset.key === (key ?? "")) return;
        player.dataset.key = key ?? "";
        if (key) player.src = address(key); else player.removeAttribute("src");
      };
      load(this.before, reference);
      load(this.after, video);
      this.after.dataset.ready = "yes";
      this.after.setAttribute("aria-label", `output ${label}`);
      this.find(".after .tag").textContent = label;
      this.stage.style.setProperty("--shape", String(size[0] / size[1]));
      this.stage.hidden = !reference && !video;
      this.find(".missing").hidden = true;
      if (!reference || !video) this.tell(`${[!reference && "The reference", !video && label].filter(Boolean).join(" and ")}: not embedded, over the size limit of this report.`);
      for (const input of this.root.querySelectorAll(".outputs input")) input.checked = Number(input.value) === number;
      this.time.max = frames - 1;
      this.listMoments();
      this.seek(clamp(this.frame, 0, frames - 1));
    }

    tell(words) {
      const note = this.find(".missing");
      note.textContent = words;
      note.hidden = false;
    }

    arrange(layout) {
      this.stage.classList.toggle("wipe", layout === "wipe");
      this.stage.classList.toggle("side", layout === "side");
      this.find(".wipe-slider").hidden = layout !== "wipe";
      this.paint();
    }

    wipe(percent) { this.stage.style.setProperty("--wipe", `${percent}%`); }

    seek(frame) {
      this.pause();
      this.frame = clamp(frame, 0, this.output.frames - 1);
      this.place();
      this.paint();
    }

    place() {
      // The middle of a frame: at its edge, rounding may show the one before.
      if (!this.playing) for (const video of this.videos) video.currentTime = (this.frame + 0.5) / this.output.fps;
    }

    async play() {
      if (this.playing) return;
      this.playing = true;
      this.markPlaying();
      if (this.frame >= this.output.frames - 1) this.frame = 0;
      this.started = performance.now() - (this.frame / this.output.fps) * 1000;
      for (const video of this.videos) { video.loop = true; video.currentTime = (this.frame + 0.5) / this.output.fps; }
      try {
        await Promise.all(this.videos.map((video) => video.play()));
      } catch (error) {
        if (error.name !== "AbortError") this.tell(`The players do not start: ${error.message}`);
      }
      if (this.playing) requestAnimationFrame(() => this.follow());
    }

    pause() {
      for (const video of this.videos) video.pause();
      if (!this.playing) return;
      this.playing = false;
      this.markPlaying();
      this.place();
    }

    markPlaying() {
      const button = this.find(".play");
      button.textContent = this.playing ? "Pause" : "Play";
      button.setAttribute("aria-pressed", String(this.playing));
    }

    follow() {
      if (!this.playing) return;
      const [leader, second] = this.videos;
      const { fps, frames } = this.output;
      if (second && Math.abs(second.currentTime - leader.currentTime) > 0.5 / fps) second.currentTime = leader.currentTime;
      const seconds = leader ? leader.currentTime : (performance.now() - this.started) / 1000;
      const frame = Math.floor(seconds * fps + 1e-3) % frames;
      if (frame !== this.frame) { this.frame = frame; this.paint(); }
      requestAnimationFrame(() => this.follow());
    }

    // The drift map's bins hold one frame each, or several of a long clip.
    bin(frame, output = this.output) { return Math.floor((frame * output.drift.bins) / output.frames); }

    frameOf(bin) { return Math.ceil((bin * this.output.frames) / this.output.drift.bins); }

    level(bin, row, column, output = this.output) {
      const { rows, columns, levels } = output.drift;
      return levels[(bin * rows + row) * columns + column];
    }

    worst(row, column) {
      let best = 0;
      for (let bin = 1; bin < this.output.drift.bins; bin++) {
        if (this.level(bin, row, column) > this.level(best, row, column)) best = bin;
      }
      return best;
    }

    paint() {
      const { frames, fps } = this.output;
      this.time.value = this.frame;
      this.time.setAttribute("aria-valuetext", `frame ${this.frame + 1} of ${frames}`);
      this.find(".clock").textContent = `${this.frame + 1}/${frames} · ${(this.frame / fps).toFixed(2)} s`;
      for (const strip of this.strips) this.paintStrip(strip);
      this.paintMap();
      for (const picture of this.cursors) {
        const left = Number(picture.dataset.left), right = Number(picture.dataset.right);
        const x = left + (right - left) * (frames > 1 ? this.frame / (frames - 1) : 0.5);
        const line = picture.querySelector(".cursor");
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
      }
    }

    paintStrip(strip) {
      const output = this.outputs[Number(strip.dataset.output)];
      const { bins, overall } = output.drift;
      const wide = Math.max(1, Math.round(strip.clientWidth * devicePixelRatio));
      const high = Math.max(1, Math.round(strip.clientHeight * devicePixelRatio));
      strip.width = wide;
      strip.height = high;
      const pen = strip.getContext("2d");
      const most = Math.max(...this.outputs.map((one) => Math.max(...one.drift.overall))) || 1;
      for (let bin = 0; bin < bins; bin++) {
        const from = Math.round((bin * wide) / bins), to = Math.round(((bin + 1) * wide) / bins);
        const tall = Math.round((overall[bin] / most) * (high - 2)) + 2;
        pen.fillStyle = css(overall[bin] / most);
        pen.fillRect(from, high - tall, Math.max(1, to - from - (bins < 60 ? 1 : 0)), tall);
      }
      const place = ((this.frame + 0.5) / output.frames) * wide;
      pen.fillStyle = getComputedStyle(this.root).color;
      pen.fillRect(Math.round(place) - 1, 0, 2, high);
      strip.setAttribute("aria-valuemax", output.frames);
      strip.setAttribute("aria-valuenow", this.frame + 1);
      const now = overall[this.bin(Math.min(this.frame, output.frames - 1), output)];
      strip.setAttribute("aria-valuetext", `frame ${this.frame + 1}, drift ${now.toFixed(4)}`);
    }

    paintMap() {
      const { rows, columns, overall } = this.output.drift;
      const bin = this.bin(this.frame);
      const map = this.find(".map"), overlay = this.find(".overlay");
      let most = 0, place = [0, 0];
      for (const canvas of [map, overlay]) {
        canvas.width = columns;
        canvas.height = rows;
        const pen = canvas.getContext("2d");
        const picture = pen.createImageData(columns, rows);
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            const level = this.level(bin, row, column);
            if (level > most) { most = level; place = [row, column]; }
            picture.data.set([...colour(level / 255), 255], 4 * (row * columns + column));
          }
        }
        pen.putImageData(picture, 0, 0);
      }
      map.style.aspectRatio = String(this.output.size[0] / this.output.size[1]);
      overlay.hidden = !this.find(".show-drift").checked;
      const top = (most / 255) * this.data.scale;
      this.find(".map-caption").textContent =
        `frame ${this.frame + 1}: drift ${overall[bin].toFixed(4)}, at most ${top.toFixed(4)} in row ${place[0] + 1}, column ${place[1] + 1} of ${rows}×${columns}`;
      map.setAttribute("aria-label", this.find(".map-caption").textContent);
    }

    paintLegend() {
      const pen = this.find(".legend").getContext("2d");
      for (let x = 0; x < 128; x++) { pen.fillStyle = css(x / 127); pen.fillRect(x, 0, 1, 1); }
      this.find(".scale-top").textContent = `${this.data.scale.toFixed(3)} (map)`;
    }

    listMoments() {
      const { overall } = this.output.drift;
      const order = overall.map((value, bin) => [value, bin]).sort((a, b) => b[0] - a[0]).slice(0, 3);
      const list = this.find(".moments");
      list.replaceChildren("most drift at");
      for (const [value, bin] of order) {
        const button = document.createElement("button");
        const frame = this.frameOf(bin);
        button.type = "button";
        button.textContent = `frame ${frame + 1} (${value.toFixed(4)})`;
        button.addEventListener("click", () => this.seek(frame));
        list.append(button);
      }
    }
  }

  const groups = JSON.parse(document.getElementById("data").textContent);
  document.querySelectorAll(".group").forEach((root, number) => new Viewer(root, groups[number]));
})();
