"use strict";
// Words and marks are counted in whole characters (code points), as the server counts them; so texts are cut
// as arrays of characters, never with String.slice.

const $ = (id) => document.getElementById(id);
const NEXT_VERDICT = { none: "correct", correct: "hallucinated", hallucinated: "none" };
const RETRY_MS = 2000;

let items = [];
let at = 0; // the caption shown
let cursor = 0; // the word chosen last
let anchor = 0; // where the chosen phrase begins
const history = []; // states before each step: {place, marks, done}
const unsaved = new Set(); // places whose present state is not on disk yet
let saving = false;
let stay = false; // leave the focus where it is: on a button worked by keyboard

async function start() {
  const response = await fetch("/audit");
  const audit = await response.json();
  items = audit.items.map((item) => ({ ...item, letters: Array.from(item.caption) }));
  $("annotator").textContent = audit.annotator ? ` · ${audit.annotator}` : "";
  const named = Number(location.hash.slice(1)) - 1;
  const open = items.findIndex((item) => !item.done);
  show(named in items ? named : open < 0 ? items.length - 1 : open);
}

// What is shown

function show(place) {
  at = place;
  cursor = anchor = 0;
  const item = items[at];
  window.history.replaceState(null, "", `#${at + 1}`);
  $("title").textContent = `Caption ${at + 1} of ${items.length}`;
  $("image-name").textContent = item.image;
  $("full").hidden = !item.has_image;
  $("no-image").hidden = item.has_image;
  if (item.has_image) {
    $("full").href = $("image").src = `/image/${at}`;
    $("image").alt = `The image that the caption describes: ${item.image}`;
  }
  if (items[at + 1]?.has_image) new Image().src = `/image/${at + 1}`;
  draw();
  window.scrollTo(0, 0);
}

function draw() {
  const { letters, words, marks, done } = items[at];
  const nodes = [];
  let end = 0;
  let wrapper = null;
  let wrapped = null; // the mark that `wrapper` shows
  words.forEach(([from, to], index) => {
    const mark = marks[markOf(index)] ?? null;
    const between = document.createTextNode(letters.slice(end, from).join(""));
    (mark && mark === wrapped ? wrapper : { append: (node) => nodes.push(node) }).append(between);
    if (mark && mark !== wrapped) {
      wrapper = element("span", `mark ${mark[2]}`, { role: "group", "aria-label": mark[2] });
      nodes.push(wrapper);
    }
    wrapped = mark;
    const text = letters.slice(from, to).join("");
    const word = element("span", "word", { role: "option", "data-index": index });
    word.setAttribute("aria-label", mark ? `${text}, ${mark[2]}` : text);
    word.textContent = text;
    if (mark) wrapper.append(word);
    else nodes.push(word);
    end = to;
  });
  nodes.push(document.createTextNode(letters.slice(end).join("")));
  $("caption").replaceChildren(...(letters.length ? nodes : []));
  choose(cursor, anchor);
  const count = (verdict) => marks.filter((mark) => mark[2] === verdict).length;
  $("tally").textContent = marks.length
    ? `${count("correct")} correct, ${count("hallucinated")} hallucinated`
    : "No object marked yet";
  $("state").textContent = done ? "finished" : "open";
  $("state").className = done ? "done" : "";
  $("finish").className = done ? "done" : "open";
  $("previous").disabled = at === 0;
  $("next").disabled = at === items.length - 1;
  $("undo").disabled = history.length === 0;
  const finished = items.filter((item) => item.done).length;
  $("count").textContent = `${finished} of ${items.length} finished`;
  $("progress").setAttribute("aria-valuemax", items.length);
  $("progress").setAttribute("aria-valuenow", finished);
  $("progress").firstElementChild.style.width = `${(100 * finished) / items.length}%`;
}

function element(name, className, attributes) {
  const made = document.createElement(name);
  made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const wordElements = () => [...$("caption").querySelectorAll(".word")];

/** Chooses the words from `from` to `to` and puts the focus on `to`. */
function choose(to, from = to) {
  const words = wordElements();
  if (!words.length) return;
  cursor = Math.max(0, Math.min(to, words.length - 1));
  anchor = Math.max(0, Math.min(from, words.length - 1));
  const [low, high] = [Math.min(cursor, anchor), Math.max(cursor, anchor)];
  words.forEach((word, index) => {
    const chosen = index >= low && index <= high;
    word.classList.toggle("chosen", chosen);
    word.setAttribute("aria-selected", chosen);
    word.tabIndex = index === cursor ? 0 : -1;
  });
  if (!stay) words[cursor].focus({ preventScroll: true });
  words[cursor].scrollIntoView({ block: "nearest" });
}

// Marks

const overlaps = (mark, from, to) => mark[0] < to && mark[1] > from;

/** Index of the mark that touches a word; -1 where none does. */
function markOf(index) {
  const [from, to] = items[at].words[index];
  return items[at].marks.findIndex((mark) => overlaps(mark, from, to));
}

/** The characters chosen: the phrase; for a single word inside a mark, that whole mark. */
function chosenSpan() {
  const { words, marks } = items[at];
  const mark = cursor === anchor ? marks[markOf(cursor)] : undefined;
  if (mark) return [mark[0], mark[1]];
  return [words[Math.min(cursor, anchor)][0], words[Math.max(cursor, anchor)][1]];
}

function setMark(verdict) {
  const { words, marks, done } = items[at];
  if (!words.length) return;
  const [from, to] = chosenSpan();
  const others = marks.filter((mark) => !overlaps(mark, from, to));
  const added = verdict === "none" ? [] : [[from, to, verdict]];
  step([...others, ...added].sort((a, b) => a[0] - b[0]), done);
}

function click(index, extend) {
  setPhrase(false);
  if (!extend) {
    choose(index);
    const mark = items[at].marks[markOf(index)];
    setMark(NEXT_VERDICT[mark ? mark[2] : "none"]);
    return;
  }
  const first = items[at].marks[markOf(anchor)];
  choose(index, anchor);
  if (first) setMark(first[2]);
}

function setPhrase(on) {
  $("phrase").setAttribute("aria-pressed", on);
}

// Steps, and how they are kept

function step(marks, done) {
  const item = items[at];
  if (done === item.done && JSON.stringify(marks) === JSON.stringify(item.marks)) return;
  history.push({ place: at, marks: item.marks, done: item.done });
  Object.assign(item, { marks, done });
  keep(at);
  draw();
}

function undo() {
  const before = history.pop();
  if (!before) return;
  Object.assign(items[before.place], { marks: before.marks, done: before.done });
  keep(before.place);
  if (before.place === at) draw();
  else show(before.place);
}

function finish() {
  step(items[at].marks, true);
  const later = items.findIndex((item, place) => place > at && !item.done);
  const open = later < 0 ? items.findIndex((item) => !item.done) : later;
  if (open >= 0) show(open);
  else say(`All ${items.length} captions are finished. You can close this page.`);
}

function go(by) {
  if (at + by in items) show(at + by);
}

function keep(place) {
  unsaved.add(place);
  $("saved").textContent = "Saving…";
  if (!saving) saveAll();
}

async function saveAll() {
  saving = true;
  while (unsaved.size) {
    const [place] = unsaved;
    unsaved.delete(place);
    try {
      await save(place);
    } catch (error) {
      unsaved.add(place);
      $("saved").textContent = "Not saved";
      const why = error instanceof TypeError ? "the server does not answer" : error.message;
      say(`Not saved: ${why}. Trying again …`, "bad");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  saving = false;
}

async function save(place) {
  const { version, marks, done } = items[place];
  const response = await fetch(`/caption/${place}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ version, marks, done }),
  });
  const answer = await response.json();
  if (response.ok) {
    items[place].version = answer.version;
    if (!unsaved.size) {
      $("saved").textContent = "Saved";
      if ($("message").className === "bad") $("message").hidden = true;
    }
    return;
  }
  if (response.status >= 500) throw new Error(answer.error);
  $("saved").textContent = "Not saved";
  unsaved.clear();
  say(`Not saved: ${answer.error}. Reload this page to see what is on disk.`, "bad");
}

function say(text, className = "") {
  $("message").textContent = text;
  $("message").className = className;
  $("message").hidden = false;
}

// Keys and clicks

/** The word nearest above (-1) or below (+1) the one chosen last. */
function wordInLine(direction) {
  const boxes = wordElements().map((word) => word.getClientRects()[0]);
  const here = boxes[cursor];
  const middle = here.left + here.width / 2;
  const rows = boxes.map((box) => Math.round((box.top - here.top) / here.height));
  const row = direction * Math.min(...rows.map((r) => r * direction).filter((r) => r > 0));
  let best = cursor;
  let least = Infinity;
  boxes.forEach((box, index) => {
    const distance = Math.abs(box.left + box.width / 2 - middle);
    if (rows[index] === row && distance < least) [best, least] = [index, distance];
  });
  return best;
}

const KEYS = {
  ArrowLeft: (event) => choose(cursor - 1, event.shiftKey ? anchor : cursor - 1),
  ArrowRight: (event) => choose(cursor + 1, event.shiftKey ? anchor : cursor + 1),
  ArrowUp: (event) => moveLine(-1, event.shiftKey),
  ArrowDown: (event) => moveLine(1, event.shiftKey),
  Home: (event) => choose(0, event.shiftKey ? anchor : 0),
  End: (event) => choose(Infinity, event.shiftKey ? anchor : Infinity),
  Escape: () => { setPhrase(false); $("message").hidden = true; choose(cursor); },
  Enter: finish,
  Backspace: () => setMark("none"),
  Delete: () => setMark("none"),
  c: () => setMark("correct"),
  h: () => setMark("hallucinated"),
  x: () => setMark("none"),
  u: undo,
  n: () => go(1),
  p: () => go(-1),
};

function moveLine(direction, extend) {
  if (!items[at].words.length) return;
  const index = wordInLine(direction);
  choose(index, extend ? anchor : index);
}

document.addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
    return;
  }
  const onControl = event.target.closest("button, a, summary");
  if (control || event.altKey || (event.key === "Enter" && onControl) || !items.length) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

$("caption").addEventListener("mousedown", (event) => {
  if (event.shiftKey) event.preventDefault(); // no text selection
});
$("caption").addEventListener("click", (event) => {
  const word = event.target.closest(".word");
  if (word) click(Number(word.dataset.index), event.shiftKey || $("phrase").getAttribute("aria-pressed") === "true");
});
const BUTTONS = {
  correct: () => setMark("correct"),
  hallucinated: () => setMark("hallucinated"),
  clear: () => setMark("none"),
  phrase: () => setPhrase($("phrase").getAttribute("aria-pressed") !== "true"),
  undo,
  previous: () => go(-1),
  next: () => go(1),
  finish,
};
for (const [id, act] of Object.entries(BUTTONS)) {
  $(id).addEventListener("click", (event) => {
    stay = event.detail === 0; // pressed by a key
    if (items.length) act();
    stay = false;
  });
}
window.addEventListener("beforeunload", (event) => {
  if (unsaved.size || saving) event.preventDefault();
});

start().catch(() => say("The captions cannot be read; is the server still running?", "bad"));
