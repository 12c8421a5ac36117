"use strict";
// One page, three states: who votes, the comparison, thanks. Answers are saved one by one; the server knows what is next.
const $ = (id) => document.getElementById(id);
const videos = { a: $("clip-a"), input: $("clip-input"), b: $("clip-b") };
const players = Object.values(videos);
const questions = [...document.querySelectorAll(".question")];
let now = null;        // what the server said of the comparison that is shown
let shownAt = 0;       // when it was first seen playing, in ms
let unsaved = new Map();
let saving = false;

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { cache: "no-store", ...options });
  const data = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(data.error), { status: answer.status });
  return data;
}
const say = (text) => { $("status").textContent = text; };
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function show(id) {
  for (const name of ["enter", "vote", "done"]) $(name).hidden = name !== id;
  if (id !== "vote") stop();
}

// ---- playback: every turn starts all clips at once from the first frame; in between, those that drift are led back

let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let turn = 0;          // a newer turn makes an older one give up
let moving = false;

const event = (video, name) => new Promise((resolve) => video.addEventListener(name, resolve, { once: true }));
const ready = async (video) => { while (video.readyState < 3) await Promise.race([event(video, "canplay"), wait(250)]); };

async function seek(video, time) {
  await ready(video);
  if (Math.abs(video.currentTime - time) < 1e-4 && !video.seeking) return;
  const there = event(video, "seeked");
  video.currentTime = time;
  await Promise.race([there, wait(2000)]);
}

function label() {
  $("play").textContent = playing ? "Pause" : "Play";
}

async function stop(time) {
  const mine = ++turn;
  moving = false;
  players.forEach((video) => video.pause());
  if (time !== undefined) await Promise.all(players.map((video) => seek(video, time)));
  return mine === turn;
}

async function start() {
  if (!(await stop(0)) || !playing || document.hidden) return;
  players.forEach((video) => { video.playbackRate = 1; });
  try {
    await Promise.all(players.map((video) => video.play()));
    moving = true;
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    playing = false;
    label();
  }
}

function keepInStep() {
  requestAnimationFrame(keepInStep);
  if (!now) return;
  const times = players.map((video) => video.currentTime);
  const frame = Math.floor(Math.min(...times) * now.fps + 0.01) + 1, frames = Math.round(now.seconds * now.fps);
  $("moment").textContent = `${Math.min(frame, frames)} / ${frames}`;
  if (!moving) return;
  if (Math.max(...times) >= now.seconds - 0.005 || players.some((video) => video.ended)) {
    moving = false;
    start();
    return;
  }
  const middle = [...times].sort((x, y) => x - y)[1];
  for (const video of players) {
    const behind = middle - video.currentTime;
    if (Math.abs(behind) > 1.2 / now.fps && !video.seeking) video.currentTime = middle;
    else video.playbackRate = Math.abs(behind) < 0.004 ? 1 : Math.min(1.2, Math.max(0.8, 1 + 3 * behind));
  }
}

function toggle() {
  playing = !playing;
  label();
  if (playing) start();
  else stop(Math.min(...players.map((video) => video.currentTime)));
}

async function step(by) {
  if (!now) return;
  playing = false;
  label();
  const frames = Math.round(now.seconds * now.fps);
  const at = Math.floor(Math.min(...players.map((video) => video.currentTime)) * now.fps + 0.01);
  await stop(((at + by + frames) % frames + 0.001) / now.fps);
}

for (const video of players) {
  video.addEventListener("error", () => {
    if (now && video.getAttribute("src")) say("A clip cannot be loaded; reload the page, and tell whoever runs the study if it stays so.");
  });
  video.addEventListener("waiting", () => { if (moving && !video.ended && video.readyState < 3 && video.currentTime < now.seconds - 1.5 / now.fps) start(); });
  video.addEventListener("click", toggle);
}
document.addEventListener("visibilitychange", () => { if (now) document.hidden ? stop() : start(); });

// ---- where the rater is

function arrive(state) {
  now = null;
  if (!state.next) {
    $("count").textContent = state.total;
    show("done");
    $("done").querySelector("h1").focus();
    return;
  }
  $("place").textContent = `Comparison ${state.done + 1} of ${state.total}`;
  $("bar").max = state.total;
  $("bar").value = state.done;
  $("rater").textContent = state.rater;
  $("answers").reset();
  for (const [question, choice] of Object.entries(state.next.answers))
    document.querySelector(`input[name="${question}"][value="${choice}"]`).checked = true;
  show("vote");
  document.querySelector(".sight").style.setProperty("--shape", state.next.shape);
  for (const [slot, video] of Object.entries(videos)) { video.src = state.next.clips[slot]; video.load(); }
  now = state.next;
  shownAt = performance.now();
  say("");
  label();
  focusOn(questions.findIndex((one) => !chosen(one)));
  window.scrollTo(0, 0);
  $("place").focus({ preventScroll: true });
  refresh();
  start();
}

async function resume() {
  try {
    const state = await ask("api/state");
    if (state.rater !== null) { arrive(state); return; }
    show("enter");
    $("alias").focus();
  } catch (error) {
    show("enter");
    $("enter-problem").textContent = `The study cannot be reached (${error.message}); reload the page.`;
  }
}

async function enter(alias) {
  try {
    arrive(await ask("api/rater", alias ? { alias } : {}));
  } catch (error) {
    $("enter-problem").textContent = error.message;
    $("alias").focus();
  }
}

async function leave() {
  now = null;
  await ask("api/leave", {}).catch(() => null);
  $("alias").value = $("enter-problem").textContent = "";
  show("enter");
  $("alias").focus();
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const alias = $("alias").value.trim();
  if (alias) enter(alias);
  else { $("enter-problem").textContent = "Write a name, or start without one."; $("alias").focus(); }
});
$("nameless").addEventListener("click", () => enter(null));
$("leave").addEventListener("click", leave);
$("another").addEventListener("click", leave);
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => step(-1));
$("ahead").addEventListener("click", () => step(1));

// ---- answers

let current = 0;
const chosen = (question) => question.querySelector("input:checked");

function focusOn(index) {
  current = Math.min(questions.length - 1, Math.max(0, index < 0 ? questions.length - 1 : index));
  questions.forEach((question, i) => question.classList.toggle("current", i === current));
}

function refresh() {
  const complete = questions.every(chosen) && !unsaved.size;
  $("next").setAttribute("aria-disabled", String(!complete));
  return complete;
}

function choose(index, value) {
  questions[index].querySelector(`input[value="${value}"]`).checked = true;
  answered(index, value);
}

function answered(index, value) {
  const question = questions[index].dataset.question;
  const seconds = Math.min(86400, (performance.now() - shownAt) / 1000);
  unsaved.set(question, { pair: now.id, question, choice: value, seconds });
  const open = questions.findIndex((one) => !chosen(one));
  focusOn(open < 0 ? index : open);
  refresh();
  save();
}

async function save() {
  if (saving) return;
  saving = true;
  while (unsaved.size) {
    const [question, answer] = unsaved.entries().next().value;
    try {
      await ask("api/vote", answer);
      // A newer answer to the same question, given in the meantime, is still to be sent.
      if (unsaved.get(question) === answer) unsaved.delete(question);
      say("Saved.");
    } catch (error) {
      if (error.status && error.status !== 429 && error.status < 500) {
        unsaved.clear();
        say(`Not saved: ${error.message}. Reload the page.`);
        break;
      }
      say("Not saved yet, trying again…");
      await wait(1000);
    }
  }
  saving = false;
  refresh();
}

async function next() {
  if (!refresh()) {
    const open = questions.findIndex((one) => !chosen(one));
    if (open >= 0) { focusOn(open); say("Please answer all three questions."); }
    return;
  }
  try {
    arrive(await ask("api/state"));
  } catch (error) {
    say(`The next comparison cannot be loaded (${error.message || "no connection"}); try again.`);
  }
}

questions.forEach((question, index) => {
  question.addEventListener("change", (event) => answered(index, event.target.value));
  question.addEventListener("focusin", () => focusOn(index));
});
$("answers").addEventListener("submit", (event) => { event.preventDefault(); next(); });

document.addEventListener("keydown", (event) => {
  if (!now || $("vote").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  const onButton = target instanceof HTMLButtonElement;
  // A radio button that is not chosen takes Space for itself, as everywhere.
  const onRadio = target instanceof HTMLInputElement && !target.checked;
  const act = {
    "1": () => choose(current, "a"), ArrowLeft: () => choose(current, "a"), a: () => choose(current, "a"),
    "2": () => choose(current, "b"), ArrowRight: () => choose(current, "b"), b: () => choose(current, "b"),
    ArrowUp: () => focusOn(Math.max(0, current - 1)), ArrowDown: () => focusOn(Math.min(questions.length - 1, current + 1)),
    ",": () => step(-1), ".": () => step(1),
    " ": onButton || onRadio ? null : toggle,
    Enter: onButton ? null : next,
  }[event.key];
  if (!act || (event.repeat && event.key !== "," && event.key !== ".")) return;
  event.preventDefault();
  act();
});

requestAnimationFrame(keepInStep);
resume();
