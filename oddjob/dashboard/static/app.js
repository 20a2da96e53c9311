// What a page does besides being a page: it asks for itself again, keeps times current, and selects
// rows. Everything works without it.
"use strict";

const interval = Number(document.body.dataset.refresh) * 1000;
const live = document.getElementById("live");
let tag = null;
let isAsking = false;

const units = [[86400, "d"], [3600, "h"], [60, "min"]];

function lasting(seconds) {
  for (const [size, name] of units) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${name}`;
  }
  return seconds >= 1 ? `${Math.round(seconds)} s` : `${Math.round(seconds * 1000)} ms`;
}

function tick() {
  for (const each of document.querySelectorAll("time")) {
    const seconds = (Date.now() - Date.parse(each.dateTime)) / 1000;
    let text = lasting(Math.abs(seconds));
    if (!("for" in each.dataset)) text = seconds < 0 ? `in ${text}` : `${text} ago`;
    if (each.textContent !== text) each.textContent = text;
  }
}

function boxes() {
  return [...document.querySelectorAll("input[name=id]")];
}

function showSelected() {
  const all = boxes();
  const count = all.filter((each) => each.checked).length;
  const master = document.querySelector("[data-all]");
  const label = document.getElementById("selected");
  if (master) {
    master.hidden = false;
    master.checked = count > 0 && count === all.length;
    master.indeterminate = count > 0 && count < all.length;
  }
  if (label) {
    label.hidden = !count;
    label.textContent = `${count} selected`;
  }
}

function focusable(root) {
  return [...root.querySelectorAll("a, button, input, select, summary")];
}

// Put new content in place of the old one; keep what the user has opened, chosen and focused.
function replace(content, fresh) {
  const open = new Map([...content.querySelectorAll("details[id]")].map((e) => [e.id, e.open]));
  const checked = new Set(boxes().filter((e) => e.checked).map((e) => e.value));
  const scope = content.querySelector("select[name=scope]");
  const place = focusable(content).indexOf(document.activeElement);
  content.replaceChildren(...fresh.childNodes);
  for (const [id, isOpen] of open) {
    const each = document.getElementById(id);
    if (each) each.open = isOpen;
  }
  for (const each of boxes()) each.checked = checked.has(each.value);
  const newScope = content.querySelector("select[name=scope]");
  if (scope && newScope) newScope.value = scope.value;
  focusable(content)[place]?.focus({ preventScroll: true });
}

async function refresh() {
  const content = document.querySelector("[data-live]");
  const isBusy = document.getSelection()?.type === "Range" || document.activeElement?.matches("select");
  if (!content || isAsking || isBusy || document.hidden || live.ariaPressed !== "true") return;
  isAsking = true;
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status === 200 && answer.headers.has("ETag")) {
      tag = answer.headers.get("ETag");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (fresh) replace(content, fresh);
    }
    live.title = answer.ok || answer.status === 304 ? "" : `The last answer was ${answer.status}`;
  } catch {
    live.title = "There is no answer";
  } finally {
    isAsking = false;
  }
  tick();
  showSelected();
}

function setLive(isOn) {
  live.ariaPressed = String(isOn);
  try { localStorage.setItem("oddjob-live", String(isOn)); } catch { /* it is forgotten */ }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    for (const each of boxes()) each.checked = event.target.checked;
  }
  showSelected();
});

// What was done is said once, not again when the page is loaded again.
const url = new URL(location.href);
for (const name of ["did", "count", "refused", "left"]) url.searchParams.delete(name);
if (url.href !== location.href) history.replaceState(null, "", url);

if (document.querySelector("[data-live]") && interval > 0) {
  let stored = null;
  try { stored = localStorage.getItem("oddjob-live"); } catch { /* as if it were not set */ }
  setLive(stored !== "false");
  live.hidden = false;
  live.addEventListener("click", () => setLive(live.ariaPressed !== "true"));
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, interval);
}
setInterval(tick, 1000);
showSelected();
