// Line charts as SVG: all over the same time, with the same marks, and one cursor for all of them.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 14, TOP = 10, BOTTOM = 22;
const HEIGHT = 178, STRIP_HEIGHT = 104;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800];
const SHORTEST_GAP_S = 60;

const HOURS = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SECONDS = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAYS = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

let shown = [];
let cursorAt = null;

/** Draw the size into one element and the other charts into another; what is there already is drawn anew in place. */
export function drawCharts(sizeParent, parent, charts) {
  const all = [[sizeParent, 0, charts.size, STRIP_HEIGHT], ...charts.charts.map((chart, index) => [parent, index, chart, HEIGHT])];
  shown = all.map(([where, index, chart, height]) => draw(where.children[index] ?? newFigure(where), chart, charts, height));
  moveCursor(cursorAt);
}

function newFigure(parent) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  const svg = document.createElementNS(SVG, "svg");
  figure.append(caption, svg);
  parent.append(figure);
  svg.addEventListener("pointermove", (event) => {
    const chart = shown.find((each) => each.svg === svg);
    if (chart) moveCursor(chart.timeAt(event.clientX - svg.getBoundingClientRect().left));
  });
  svg.addEventListener("pointerleave", () => moveCursor(null));
  new ResizeObserver(() => redraw(svg)).observe(figure);
  return figure;
}

function redraw(svg) {
  const chart = shown.find((each) => each.svg === svg);
  if (chart && chart.width !== svg.clientWidth) {
    shown[shown.indexOf(chart)] = draw(svg.parentElement, ...chart.drawn);
    moveCursor(cursorAt);
  }
}

// --- one chart --------------------------------------------------------------------------------------------------------

function draw(figure, chart, charts, height) {
  const [caption, svg] = figure.children;
  const width = Math.max(200, svg.clientWidth || figure.clientWidth);
  const end = Math.max(charts.end_s, 1);
  const ticks = chart.band ? [0, ...chart.band, 100] : niceTicks(...extent(chart), height === STRIP_HEIGHT ? 2 : 4, chart.steps);
  const [low, high] = [ticks[0], ticks.at(-1)];
  const x = (seconds) => LEFT + (Math.min(Math.max(seconds, 0), end) / end) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (Math.min(Math.max(value, low), high) - low) / (high - low || 1)) * (height - TOP - BOTTOM);
  const parts = [];
  if (chart.band) {
    const [from, to] = chart.band;
    parts.push(element("rect", { class: "band", x: LEFT, y: y(to), width: width - LEFT - RIGHT, height: y(from) - y(to) }));
  }
  for (const tick of ticks) {
    parts.push(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    parts.push(element("text", { class: "tick", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, numberWords(tick)));
  }
  parts.push(...timeAxis(charts, end, x, width, height));
  parts.push(...charts.marks.map((mark) => markLine(mark, x, height)));
  chart.curves.forEach((curve, index) => {
    const d = pathOf(curve.points, x, y, chart.steps);
    if (chart.steps && curve.points.length) parts.push(element("path", { class: `area c${index}`, d: `${d}V${y(low)}H${x(curve.points[0]?.[0] ?? 0)}Z` }));
    parts.push(element("path", { class: `curve c${index}`, d }));
  });
  const isEmpty = chart.curves.every((curve) => !curve.points.length);
  if (isEmpty) parts.push(element("text", { class: "empty", x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing yet"));
  const cursor = element("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", spoken(chart));
  svg.replaceChildren(...parts, cursor);
  const values = legend(caption, chart);
  const timeAt = (left) => ((left - LEFT) / (width - LEFT - RIGHT)) * end;
  return { svg, chart, charts, width, cursor, values, x, timeAt, end, drawn: [chart, charts, height] };
}

function element(name, attributes, words) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (words !== undefined) made.textContent = words;
  return made;
}

function markLine(mark, x, height) {
  const line = element("line", { class: "mark", x1: x(mark.at_s), x2: x(mark.at_s), y1: TOP, y2: height - BOTTOM });
  line.dataset.tone = mark.meaning;
  line.append(element("title", {}, mark.words));
  return line;
}

function pathOf(points, x, y, steps) {
  const gap = gapOf(points);
  return points.map(([time, value], index) => {
    const at = `${x(time).toFixed(1)}`;
    if (index === 0) return `M${at} ${y(value).toFixed(1)}`;
    if (steps) return `H${at}V${y(value).toFixed(1)}`;
    return `${time - points[index - 1][0] > gap ? "M" : "L"}${at} ${y(value).toFixed(1)}`;
  }).join("");
}

/** Longer than that between two values, and nothing was going on. */
function gapOf(points) {
  const apart = points.slice(1).map(([time], index) => time - points[index][0]).sort((a, b) => a - b);
  return Math.max(SHORTEST_GAP_S, 8 * (apart[Math.floor(apart.length / 2)] ?? 0));
}

// --- axes -------------------------------------------------------------------------------------------------------------

function extent(chart) {
  const values = chart.curves.flatMap((curve) => curve.points.map(([, value]) => value));
  if (!values.length) return [chart.low ?? 0, chart.high ?? 1];
  return [chart.low ?? Math.min(...values), chart.high ?? Math.max(...values)];
}

function niceTicks(low, high, count, whole) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((each) => each >= rough * 0.999);
  if (whole) step = Math.max(1, Math.ceil(step));
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function* timeAxis(charts, end, x, width, height) {
  const begin = new Date(charts.begin);
  const most = Math.max(2, Math.floor((width - LEFT - RIGHT) / 92));
  const step = STEPS_S.find((each) => end / each <= most) ?? STEPS_S.at(-1);
  const local = begin.getTime() / 1000 - 60 * begin.getTimezoneOffset();
  for (let time = Math.ceil(local / step) * step - local; time <= end; time += step) {
    const date = new Date(begin.getTime() + 1000 * time);
    const words = (step >= 86_400 ? DAYS : step >= 60 ? HOURS : SECONDS).format(date);
    const anchor = x(time) > width - 40 ? "end" : x(time) < LEFT + 12 ? "start" : "middle";
    yield element("line", { class: "tickmark", x1: x(time), x2: x(time), y1: height - BOTTOM, y2: height - BOTTOM + 4 });
    yield element("text", { class: "tick", x: x(time), y: height - 6, "text-anchor": anchor }, words);
  }
}

// --- words ------------------------------------------------------------------------------------------------------------

const numberWords = (value) => Math.abs(value) >= 1000 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3)));

function legend(caption, chart) {
  const title = document.createElement("strong");
  title.textContent = chart.unit && chart.unit !== "%" ? `${chart.title}, ${chart.unit}` : chart.title;
  const values = chart.curves.map((curve, index) => {
    const entry = document.createElement("span");
    entry.className = chart.curves.length > 1 ? `entry named c${index}` : "entry";
    const name = chart.curves.length > 1 ? `${curve.name} ` : "";
    const value = document.createElement("b");
    entry.append(name, value);
    return { entry, value, curve };
  });
  caption.replaceChildren(title, ...values.map(({ entry }) => entry));
  return values;
}

const withUnit = (value, chart) => value === undefined ? "–" : `${numberWords(value)}${chart.unit === "%" ? " %" : ""}`;

function spoken(chart) {
  const curves = chart.curves.filter((curve) => curve.points.length);
  const words = curves.map(({ name, points }) => `${name} from ${withUnit(points[0][1], chart)} to ${withUnit(points.at(-1)[1], chart)}`);
  return `${chart.title}: ${words.join(", ") || "nothing yet"}`;
}

// --- the cursor -------------------------------------------------------------------------------------------------------

/** Every chart shows its values at this moment; null: the last ones. */
function moveCursor(time) {
  cursorAt = time;
  for (const { chart, cursor, values, x } of shown) {
    cursor.setAttribute("visibility", time === null ? "hidden" : "visible");
    if (time !== null) {
      cursor.setAttribute("x1", x(time));
      cursor.setAttribute("x2", x(time));
    }
    for (const { value, curve } of values) {
      const words = withUnit(valueAt(curve.points, time), chart);
      if (value.textContent !== words) value.textContent = words;
    }
  }
}

function valueAt(points, time) {
  if (time === null) return points.at(-1)?.[1];
  let found;
  for (const [moment, value] of points) {
    if (moment > time) break;
    found = value;
  }
  return found;
}
