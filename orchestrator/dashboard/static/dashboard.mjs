// Both pages: asks the server every two seconds for what there is, and puts it where the page has a place for it.
// Whatever comes from a job becomes text, never markup. Nothing here asks anybody else, or changes anything.
import { drawCharts } from "/static/charts.mjs";

const POLL_MS = 2000;
const STALE_S = 15;
const PAGE = document.body.dataset.page;
const JOB = PAGE === "job" ? location.pathname.split("/")[2] : "";
const ADDRESS = PAGE === "job" ? `/data/jobs/${JOB}` : `/data/overview${location.search === "?all" ? "?all" : ""}`;

const byId = (id) => document.getElementById(id);

// --- asking -----------------------------------------------------------------------------------------------------------

let etag = "";
let trouble = "";
let readAt = null;

async function ask() {
  const answer = await answerOf(ADDRESS);
  if (answer === null) {
    etag = "";
    trouble = "The dashboard does not answer: is elastic dashboard still running?";
  } else if (answer.status !== 304) {
    await take(answer);
  }
  const age = answer?.headers.get("Age") ?? null;
  if (age !== null) readAt = new Date(Date.now() - 1000 * Number(age));
  tellHowGood();
}

async function answerOf(address) {
  const headers = etag ? { "If-None-Match": etag } : {};
  try {
    return await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  } catch {
    return null;
  }
}

async function take(answer) {
  if (!answer.ok) {
    etag = "";
    trouble = await answer.text();
    return;
  }
  const found = await answer.json();
  trouble = found.trouble;
  if (found.page) show(found.page);
  etag = answer.headers.get("ETag") ?? "";
}

function tellHowGood() {
  const old = readAt && Date.now() - readAt > 1000 * STALE_S;
  const words = trouble || (old ? "The store does not answer." : "");
  setText(byId("trouble"), words && readAt ? `${words} Shown is what was read at ${clock(readAt)}.` : words);
  byId("trouble").hidden = !words;
  setText(byId("read"), readAt ? `read ${clock(readAt)}` : "nothing read yet");
}

async function askForEver() {
  for (;;) {
    if (!document.hidden) await ask().catch(confess);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function confess(fault) {
  trouble = "This page has a fault: the browser's console says which.";
  tellHowGood();
  reportError(fault);
}

// --- filling in -------------------------------------------------------------------------------------------------------

const at = (values, path) => path.split(".").reduce((value, key) => value?.[key], values);

function setText(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

const FILLINGS = {
  field: (element, value) => setText(element, value === null || value === undefined ? "" : String(value)),
  title: (element, value) => { element.title = value ?? ""; },
  phase: (element, value) => { element.dataset[element.matches("tr") ? "of" : "tone"] = value; },
  meaning: (element, value) => { element.dataset.tone = value ?? ""; },
  alive: (element, value) => { element.dataset.tone = value ? "good" : "bad"; },
  heard: (element, value) => setText(element, value ? `heard ${ago(value)}` : ""),
  ago: (element, value) => setTime(element, value, ago),
  time: (element, value) => setTime(element, value, moment),
  job: (element, value) => value && element.setAttribute("href", `/jobs/${encodeURIComponent(value)}`),
  value: (element, value) => {
    element.classList.toggle("unknown", value === null);
    if (value !== null && element.value !== value) element.value = value;
  },
  gauge: fillGauge,
};

/** Put values where elements ask for them: data-field="job.name" is the text of that element. Rows have their own. */
function fill(root, values) {
  const row = root.closest("[data-key]");
  for (const [kind, put] of Object.entries(FILLINGS)) {
    for (const element of [root, ...root.querySelectorAll(`[data-${kind}]`)]) {
      const path = element.dataset[kind];
      if (path && element.closest("[data-key]") === row) put(element, at(values, path));
    }
  }
}

function fillGauge(svg, busy) {
  const [, band, level] = svg.children;
  svg.classList.toggle("unknown", busy.percent === null);
  band.setAttribute("x", busy.down_below);
  band.setAttribute("width", Math.max(0, busy.up_above - busy.down_below));
  level.setAttribute("width", busy.percent ?? 0);
  svg.dataset.tone = busy.percent > busy.up_above ? "above" : busy.percent < busy.down_below ? "below" : "within";
}

/** One element for each item, made from a template; those that were there stay, so that focus and selection do. */
function fillRows(parent, template, items, keyOf) {
  const known = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = String(keyOf(item, index));
    const row = known.get(key) ?? byId(template).content.firstElementChild.cloneNode(true);
    row.dataset.key = key;
    known.delete(key);
    fill(row, item);
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] ?? null);
  });
  for (const row of known.values()) row.remove();
}

// --- words ------------------------------------------------------------------------------------------------------------

const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

const clock = (date) => TIME.format(date);

function moment(iso) {
  const date = new Date(iso);
  return date.toDateString() === new Date().toDateString() ? clock(date) : `${DAY.format(date)} ${clock(date)}`;
}

function ago(iso) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(iso)) / 1000));
  for (const [unit, length] of [["d", 86_400], ["h", 3600], ["m", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)}${unit} ago`;
  }
  return seconds < 5 ? "now" : `${seconds}s ago`;
}

function setTime(element, iso, words) {
  setText(element, iso ? words(iso) : "");
  if (iso) {
    element.dateTime = iso;
    element.title = new Date(iso).toLocaleString();
  }
}

const many = (count, thing) => `${count.toLocaleString()} ${thing}${count === 1 ? "" : "s"}`;

function describe(job) {
  job.progress_words = job.eta === "–" ? `step ${job.steps}` : `${job.steps}, ETA ${job.eta}`;
  job.rate_words = job.usd_per_hour === "$0.00" ? "" : `${job.usd_per_hour} / h`;
  const { percent, source, down_below, up_above } = job.busy;
  job.busy_words = percent === null ? "" : `${source.split(" ")[0]}, band ${down_below}–${up_above} %`;
  job.times_words = job.ended_at ? `ended ${moment(job.ended_at)}` : `submitted ${ago(job.created_at)}`;
  return job;
}

// --- the two pages ----------------------------------------------------------------------------------------------------

function show(page) {
  (PAGE === "job" ? showJob : showOverview)(page);
  byId("page").dataset.state = "shown";
}

function showOverview(page) {
  page.older_words = `${many(page.older, "older job")} not shown`;
  fill(document.body, page);
  fillRows(byId("jobs"), "job-row", page.jobs.map(describe), (job) => job.name);
  fillRows(byId("instances"), "instance-row", page.instances, (row) => row.instance);
  byId("left-out").replaceChildren(...page.left_out.map((why) => Object.assign(document.createElement("li"), { textContent: why })));
  byId("instances-table").hidden = !page.instances.length;
  byId("no-jobs").hidden = Boolean(page.jobs.length || page.older);
  byId("older").hidden = !page.older;
  const running = page.jobs.filter((job) => job.phase === "running").length;
  const over = page.jobs.filter((job) => job.over).length;
  setText(byId("running"), `${running} running`);
  setText(byId("counts"), `${page.jobs.length - running - over} waiting, ${over + page.older} over`);
  document.title = running ? `(${running}) elastic` : "elastic";
}

function showJob(page) {
  describe(page.job);
  page.events_words = page.earlier_events ? `the last ${page.events.length}; ${many(page.earlier_events, "earlier one")}: elastic events` : "";
  page.log_words = page.log.generation === null ? "" : `the last lines of the first worker, generation ${page.log.generation}`;
  fill(document.body, page);
  fillRows(byId("events"), "event-row", page.events, (event) => event.number);
  fillRows(byId("why"), "fact-row", page.why, (_, index) => index);
  fillRows(byId("facts"), "fact-row", page.facts, (_, index) => index);
  fillRows(byId("commands"), "command-row", page.commands, (command) => command.command);
  fillRows(byId("costs"), "cost-row", page.costs, (cost) => cost.name);
  byId("costs-table").hidden = !page.costs.length;
  byId("no-costs").hidden = Boolean(page.costs.length);
  showLog(page.log.lines);
  drawCharts(byId("size"), byId("charts"), page.charts);
  document.title = `${page.job.name} ${page.job.done_words} · elastic`;
}

function showLog(lines) {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  setText(log, lines.length ? lines.join("\n") : "Nothing has been printed yet.");
  if (atEnd) log.scrollTop = log.scrollHeight;
}

askForEver();
