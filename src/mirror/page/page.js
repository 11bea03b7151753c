// Draws what /status.json tells, every two seconds. All text goes in by textContent: names of
// files are whatever somebody called them.
"use strict";

const PERIOD_MS = 2000;
const HOUR_S = 3600;
const WIDTH = 600, HEIGHT = 130, LEFT = 72, RIGHT = 6, TOP = 10, BOTTOM = 20;
const byId = (id) => document.getElementById(id);
let token = null;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const count = (n) => n.toLocaleString("en");

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return Number(n.toFixed(at === 0 ? 0 : n < 10 ? 2 : 1)) + " " + units[at];
}

function elapsed(s) {
  if (s < 10) return Number(s.toFixed(1)) + " s";
  if (s < 60) return Math.floor(s) + " s";
  const parts = s < HOUR_S ? [s / 60, "min", s % 60, "s"] : [s / HOUR_S, "h", s / 60 % 60, "min"];
  const [large, unit, small, lesser] = parts;
  const rest = Math.floor(small) === 0 ? "" : ` ${Math.floor(small)} ${lesser}`;
  if (s < 48 * HOUR_S) return `${Math.floor(large)} ${unit}${rest}`;
  return Math.floor(s / 24 / HOUR_S) + " days";
}

const moment = (s) => new Date(s * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
const ago = (s, now) => elapsed(Math.max(0, now - s)) + " ago";

// Where axes may end: halves of these are round too, in seconds and in bytes.
const LAGS_S = [2, 4, 10, 20, 60, 120, 240, 600, 1200, HOUR_S, 2 * HOUR_S, 4 * HOUR_S,
  12 * HOUR_S, 24 * HOUR_S, 96 * HOUR_S, 480 * HOUR_S];
const RATES = [1, 2, 3, 4, 5].flatMap((power) =>
  [2, 4, 10, 20, 50, 100, 200, 400, 1000].map((step) => step * 1024 ** power));

// A chart's frame over the last hour, and where a moment and a value are in it.
function frame(title, highest, ends, unit) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const top = ends.find((end) => end >= highest) ?? highest;
  const y = (value) => HEIGHT - BOTTOM - Math.min(1, value / top) * (HEIGHT - TOP - BOTTOM);
  const x = (at, now) => LEFT + (1 - (now - at) / HOUR_S) * (WIDTH - LEFT - RIGHT);
  for (const part of [0, 0.5, 1]) {
    const at = y(part * top);
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
    svg.append(drawn("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, unit(part * top)));
  }
  for (const minutes of [60, 45, 30, 15, 0]) {
    const at = x(-minutes * 60, 0);
    const anchor = minutes === 0 ? "end" : minutes === 60 ? "start" : "middle";
    const text = minutes === 0 ? "now" : `-${minutes} min`;
    svg.append(drawn("text", { x: at, y: HEIGHT - 5, "text-anchor": anchor }, text));
  }
  return { svg, x, y };
}

function lagChart(history, lag, now) {
  const points = history.map((sample) => [sample.at_s, sample.lag_ms / 1000]);
  points.push([now, lag]);
  const recent = points.filter(([at]) => at > now - HOUR_S);
  const highest = Math.max(0, ...recent.map(([, value]) => value));
  const { svg, x, y } = frame("Lag over the last hour", highest, LAGS_S, elapsed);
  const line = recent.map(([at, value]) => `${x(at, now).toFixed(1)},${y(value).toFixed(1)}`);
  const first = x(recent[0][0], now), last = x(now, now);
  const shape = [`${first},${y(0)}`, ...line, `${last},${y(0)}`];
  svg.append(drawn("polygon", { class: "area", points: shape.join(" ") }));
  svg.append(drawn("polyline", { class: "curve", points: line.join(" ") }));
  return svg;
}

function rateChart(history, now) {
  const rates = history.slice(1).map((sample, at) => {
    const before = history[at].at_s;
    return { before, at: sample.at_s, rate: sample.bytes / Math.max(1, sample.at_s - before) };
  }).filter(({ before }) => before > now - HOUR_S);
  const highest = Math.max(0, ...rates.map(({ rate }) => rate));
  const { svg, x, y } = frame("Throughput over the last hour", highest, RATES, (n) => bytes(n) + "/s");
  for (const { before, at, rate } of rates.filter(({ rate }) => rate > 0)) {
    // The least is still to be seen.
    const height = Math.max(1, y(0) - y(rate));
    const width = Math.max(1, x(at, now) - x(before, now) - 0.3);
    const place = { x: x(before, now), y: y(0) - height, width, height };
    svg.append(drawn("rect", { class: "bar", ...place }));
  }
  return svg;
}

function fact(title, value, note, kind) {
  const said = element("dd", {}, element("span", { class: kind ?? "" }, value));
  if (note) said.append(element("br", {}), note);
  return element("div", {}, element("dt", {}, title), said);
}

function shownLag(root, lag) {
  if (root.oldest_change_ms !== null) return elapsed(lag);
  return root.totals.rounds === 0 ? "not known yet" : "none";
}

function facts(root, lag, now) {
  const agreed = root.agreed;
  const digest = agreed && element("code", { title: agreed.digest }, agreed.digest.slice(0, 16));
  const watch = root.watch.means === "inotify"
    ? [`${count(root.watch.directories)} directories`, "the kernel tells"]
    : ["from time to time", "the kernel does not tell"];
  const agreement = agreed
    ? [ago(agreed.at_s, now), `${count(agreed.entries)} entries, ${bytes(agreed.bytes)}`]
    : ["not yet", ""];
  const { today, totals } = root;
  return element("dl", {},
    fact("Lag", shownLag(root, lag), "", "large"),
    fact("Last full agreement", ...agreement, "large"),
    fact("Digest of both sides", digest ?? "none"),
    fact("Today", `${count(today.files)} files, ${bytes(today.bytes)}`,
      `${bytes(today.wire_bytes)} on the wire`),
    fact("Watch", ...watch),
    fact("Since it began", `${count(totals.rounds)} rounds`,
      `${count(totals.rescans)} rescans, ${count(totals.missed)} missed, ` +
      `${count(totals.overflows)} overflows, ${count(totals.reconnects)} reconnects`));
}

function list(title, lines, total) {
  if (total === 0) return [];
  const more = total > lines.length ? `, the first ${count(lines.length)} of them:` : "";
  const items = lines.map((line) => element("li", {}, line));
  return [
    element("h3", { class: "waiting" }, `${title}: ${count(total)}${more}`),
    element("ul", { class: "scroll" }, ...items),
  ];
}

const MEANS = { auto: "automatic", reflink: "reflinks", hard_link: "hard links", copy: "copies" };

function generations(kept, now) {
  if (kept.length === 0) return [];
  const row = (cell, texts) =>
    element("tr", {}, ...texts.map((text) => element(cell, {}, text)));
  const rows = kept.map((one) => row("td",
    [one.id, moment(one.made_s), elapsed(Math.max(0, now - one.made_s)), MEANS[one.means] ?? one.means,
      count(one.entries)]));
  const head = row("th", ["name", "made", "age", "by", "entries"]);
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  return [
    element("h3", {}, `Generations: ${count(kept.length)}`),
    element("div", { class: "scroll" }, table),
  ];
}

function section(root, now) {
  const oldest = root.oldest_change_ms;
  const lag = oldest === null ? 0 : Math.max(0, now - oldest / 1000);
  const title = element("div", { class: "title" },
    element("h2", {}, root.name),
    element("span", { class: `state ${root.state}` }, root.state),
    element("span", { class: "ends" }, `for ${elapsed(Math.max(0, now - root.since_s))}`));
  const charts = element("div", { class: "charts" },
    element("div", {}, element("h3", {}, "Lag"), lagChart(root.history, lag, now)),
    element("div", {}, element("h3", {}, "Throughput"), rateChart(root.history, now)));
  return element("section", { "data-root": root.name, "data-lag": String(lag) },
    title,
    element("p", { class: "ends" }, `${root.source} \u2192 ${root.destination}`),
    ...(root.reason ? [element("p", { class: "reason" }, root.reason)] : []),
    facts(root, lag, now),
    charts,
    ...list("Problems", root.problems, root.problems_total),
    ...list("Changed at the standby by others", root.drift, root.drift_total),
    ...generations(root.generations, now));
}

function show(status, now) {
  document.title = `${status.name}: ${status.roots.map((root) => root.state).join(", ")}`;
  byId("name").textContent = status.name;
  byId("about").textContent =
    `${status.plan ? status.plan + ", " : ""}running for ${elapsed(now - status.started_s)}, ` +
    `process ${status.pid}`;
  byId("roots").classList.remove("stale");
  // What somebody is about to copy stays as it is.
  if (!getSelection().isCollapsed) return;
  const lists = () => byId("roots").querySelectorAll(".scroll");
  const places = Array.from(lists(), (list) => list.scrollTop);
  byId("roots").replaceChildren(...status.roots.map((root) => section(root, now)));
  lists().forEach((list, at) => { list.scrollTop = places[at] ?? 0; });
}

function complain(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = text === "";
  if (text !== "") byId("roots").classList.add("stale");
}

function askForToken(complaint) {
  token = null;
  complain(complaint);
  byId("sign-in").hidden = false;
  byId("token").focus();
}

async function poll() {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  try {
    const response = await fetch("status.json", { headers, cache: "no-store" });
    if (response.status === 401) {
      askForToken(token === null ? "" : "This token is not the one.");
      return;
    }
    if (!response.ok) throw new Error(`it says ${response.status}`);
    // The mirror's clock, not the one of who looks.
    const now = Date.parse(response.headers.get("date")) / 1000;
    show(await response.json(), now);
    complain("");
  } catch (error) {
    complain(`The mirror does not answer (${error.message}). What is below is as of before.`);
  }
  setTimeout(poll, PERIOD_MS);
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  byId("token").value = "";
  byId("sign-in").hidden = true;
  poll();
});

if (document.documentElement.dataset.token === "yes") askForToken("");
else poll();
