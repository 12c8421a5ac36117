// Two clips in step under one set of controls, with a wipe between them.
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const blobs = new Map();
// A video is decoded once and kept as a blob: seeking in a data: address would parse all of it again.
const address = (key) => {
  if (!blobs.has(key)) {
    const holder = document.getElementById(key);
    blobs.set(key, URL.createObjectURL(new Blob([decode(holder.textContent)], { type: "video/mp4" })));
  }
  return blobs.get(key);
};

class Player {
  // data: {clips: [{label, video, frames, fps, size, reference}], left, right, reference}; left -1 is the right clip's own reference.
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.clips = data.clips;
    this.find = (name) => root.querySelector(name);
    this.stage = this.find(".stage");
    [this.before, this.after] = root.querySelectorAll("video");
    this.time = this.find(".time");
    this.frame = 0;
    this.left = data.left;
    this.right = data.right;
    this.playing = false;
    this.layout = "wipe";
    root.hidden = false;
    this.listen();
    this.change = this.find(".map") ? new ChangeMap(this) : null;
    this.show(this.left, this.right);
  }

  get clip() { return this.clips[this.right]; }

  get videos() { return [this.before, this.after].filter((video) => video.src && !video.error); }

  listen() {
    const chosen = (name, act) => {
      for (const input of this.root.querySelectorAll(`.${name} input`)) input.addEventListener("change", () => act(input.value));
    };
    chosen("outputs", (value) => this.show(this.left, Number(value)));
    chosen("lefts", (value) => this.show(Number(value), this.right));
    chosen("layout", (value) => this.arrange(value));
    this.find(".play").addEventListener("click", () => this.toggle());
    this.find(".back").addEventListener("click", () => this.seek(this.frame - 1));
    this.find(".forward").addEventListener("click", () => this.seek(this.frame + 1));
    this.time.addEventListener("input", () => this.seek(Number(this.time.value)));
    this.wiping = this.find(".wipe-position");
    this.wiping.addEventListener("input", () => this.wipe(Number(this.wiping.value)));
    const drag = (event) => {
      if (this.layout !== "wipe" || !event.buttons) return;
      const box = this.stage.getBoundingClientRect();
      this.wipe(clamp(((event.clientX - box.left) / box.width) * 100, 0, 100));
    };
    this.stage.addEventListener("pointerdown", (event) => {
      if (this.layout === "wipe") { this.stage.setPointerCapture(event.pointerId); drag(event); }
    });
    this.stage.addEventListener("pointermove", drag);
    for (const video of [this.before, this.after]) {
      video.addEventListener("error", () => { if (video.getAttribute("src")) this.tell("This browser cannot play H.264 video; everything else on this page works without."); });
      video.addEventListener("loadeddata", () => this.place());
    }
    this.root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const taken = event.target instanceof HTMLButtonElement || event.target instanceof HTMLInputElement && event.target.type === "radio";
      const act = {
        " ": taken ? null : () => this.toggle(), ",": () => this.seek(this.frame - 1), ".": () => this.seek(this.frame + 1),
        "[": () => this.wipe(clamp(Number(this.wiping.value) - 5, 0, 100)), "]": () => this.wipe(clamp(Number(this.wiping.value) + 5, 0, 100)),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }

  show(left, right) {
    this.pause();
    this.left = left;
    this.right = right;
    const clip = this.clip, own = left < 0;
    const before = own ? { label: this.data.reference, video: clip.reference } : this.clips[left];
    this.find(".missing").hidden = true;
    this.load(this.before, before);
    this.load(this.after, clip);
    this.root.style.setProperty("--shape", String(clip.size[0] / clip.size[1]));
    this.root.style.setProperty("--pixels", String(clip.size[0]));
    this.stage.hidden = !before.video && !clip.video;
    const missing = [before, clip].filter((one) => !one.video).map((one) => one.label);
    if (missing.length) this.tell(`${missing.join(" and ")}: not in this file, which would have been larger than allowed.`);
    for (const [name, value] of [["lefts", left], ["outputs", right]]) {
      for (const input of this.root.querySelectorAll(`.${name} input`)) input.checked = Number(input.value) === value;
    }
    this.time.max = clip.frames - 1;
    this.change?.shown();
    this.seek(clamp(this.frame, 0, clip.frames - 1));
  }

  load(video, clip) {
    const key = clip.video ?? "";
    video.closest(".pane").querySelector(".tag").textContent = clip.label;
    video.setAttribute("aria-label", clip.label);
    if (video.dataset.key === key) return;
    video.dataset.key = key;
    if (key) video.src = address(key); else video.removeAttribute("src");
  }

  tell(words) {
    const note = this.find(".missing");
    note.textContent = words;
    note.hidden = false;
  }

  arrange(layout) {
    this.layout = layout;
    for (const name of ["wipe", "side", "where"]) this.stage.classList.toggle(name, layout === name);
    this.find(".wipe-slider").hidden = layout !== "wipe";
    this.paint();
  }

  wipe(percent) {
    this.wiping.value = percent;
    this.stage.style.setProperty("--wipe", `${percent}%`);
  }

  seek(frame) {
    this.pause();
    this.frame = clamp(frame, 0, this.clip.frames - 1);
    this.place();
    this.paint();
  }

  place() {
    // The middle of a frame: at its edge, rounding may show the one before.
    if (!this.playing) for (const video of this.videos) video.currentTime = (this.frame + 0.5) / this.clip.fps;
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  async play() {
    if (this.playing) return;
    this.playing = true;
    this.mark();
    if (this.frame >= this.clip.frames - 1) this.frame = 0;
    this.started = performance.now() - (this.frame / this.clip.fps) * 1000;
    await this.run((this.frame + 0.5) / this.clip.fps);
    if (this.playing) requestAnimationFrame(() => this.follow());
  }

  async run(from) {
    for (const video of this.videos) { video.playbackRate = 1; video.currentTime = from; }
    try {
      await Promise.all(this.videos.map((video) => video.play()));
    } catch (error) {
      if (error.name !== "AbortError") this.tell(`The clips do not start: ${error.message}`);
    }
  }

  pause() {
    for (const video of this.videos) video.pause();
    if (!this.playing) return;
    this.playing = false;
    this.mark();
    this.place();
  }

  mark() {
    const button = this.find(".play");
    button.textContent = this.playing ? "Pause" : "Play";
    button.setAttribute("aria-pressed", String(this.playing));
  }

  follow() {
    if (!this.playing) return;
    const [leader, second] = this.videos;
    const { fps, frames } = this.clip;
    const seconds = leader ? leader.currentTime : (performance.now() - this.started) / 1000;
    const ended = this.videos.some((video) => video.ended) || (!leader && seconds * fps >= frames);
    if (ended) {
      // Both begin anew together: looping each by itself would lead them apart.
      this.started = performance.now();
      this.run(0).then(() => requestAnimationFrame(() => this.follow()));
      return;
    }
    if (second) {
      const behind = leader.currentTime - second.currentTime;
      if (Math.abs(behind) > 1.5 / fps) second.currentTime = leader.currentTime;
      else second.playbackRate = clamp(1 + 3 * behind, 0.8, 1.2);
    }
    const frame = Math.min(frames - 1, Math.floor(seconds * fps + 1e-3));
    if (frame !== this.frame) { this.frame = frame; this.paint(); }
    requestAnimationFrame(() => this.follow());
  }

  paint() {
    const { frames, fps } = this.clip;
    this.time.value = this.frame;
    this.time.setAttribute("aria-valuetext", `frame ${this.frame + 1} of ${frames}`);
    this.find(".clock").textContent = `${this.frame + 1}/${frames} · ${(this.frame / fps).toFixed(2)} s`;
    this.change?.paint();
    this.root.dispatchEvent(new CustomEvent("frame", { detail: { frame: this.frame, frames } }));
  }
}

// Players further down are filled when they come near: each holds two decoders.
const players = JSON.parse(document.getElementById("players").textContent);
const opened = new Map();
const open = (root) => {
  if (!opened.has(root)) opened.set(root, new Player(root, players[Number(root.dataset.player)]));
  return opened.get(root);
};
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); open(entry.target); }
}, { rootMargin: "600px" });
for (const root of document.querySelectorAll(".player[data-player]")) {
  root.hidden = false;
  near.observe(root);
}
