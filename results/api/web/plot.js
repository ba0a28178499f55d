// The trade-off as a picture: cost to the right, the latency upwards, one dot for each deployment.
// Drawn as SVG by hand: a few axes and dots need no library, and nothing is loaded from elsewhere.
const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 320, LEFT = 66, RIGHT = 18, TOP = 14, BOTTOM = 46;

const el = (name, attributes, ...children) => {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

// Round numbers within [low, high]: 1, 2 and 5 times powers of ten.
export const ticks = (low, high, wanted = 5) => {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i += 1) found.push(i * step);
  return found;
};

const logTicks = (low, high) => {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) {
    for (const n of [1, 2, 5]) {
      const tick = n * 10 ** e;
      if (tick >= low * 0.999 && tick <= high * 1.001) found.push(tick);
    }
  }
  return found.length > 7 ? found.filter((t) => Math.abs(Math.log10(t) % 1) < 1e-9) : found;
};

// Linear around what there is, or logarithmic where the largest is more than ten times the smallest.
const scaleOf = (values, from, to, wanted) => {
  const low = Math.min(...values), high = Math.max(...values);
  if (high > 10 * low) {
    const a = Math.log10(low / 1.2), b = Math.log10(high * 1.2);
    const at = (v) => from + ((Math.log10(v) - a) / (b - a)) * (to - from);
    return { at, ticks: logTicks(low / 1.2, high * 1.2), log: true };
  }
  const room = (high - low) * 0.12 || high * 0.2;
  const first = Math.max(0, low - room), last = high + room;
  return { at: (v) => from + ((v - first) / (last - first)) * (to - from), ticks: ticks(first, last, wanted), log: false };
};

// points: {x, y, rank, words}. An SVG element `width` pixels wide, so that its text is as large as the
// page's; `pick(rank)` is called on a click.
export const tradeOff = (points, { xName, yName, showX, showY, description, pick, width: WIDTH }) => {
  const x = scaleOf(points.map((p) => p.x), LEFT, WIDTH - RIGHT, WIDTH / 110);
  const y = scaleOf(points.map((p) => p.y), HEIGHT - BOTTOM, TOP, 5);
  const svg = el("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": description });
  for (const tick of x.ticks) {
    const at = x.at(tick);
    svg.append(el("line", { class: "grid", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
    svg.append(el("text", { x: at, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, showX(tick)));
  }
  for (const tick of y.ticks) {
    const at = y.at(tick);
    svg.append(el("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
    svg.append(el("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, showY(tick)));
  }
  const log = (scale) => (scale.log ? " (logarithmic)" : "");
  svg.append(el("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, xName + log(x)));
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  svg.append(el("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, yName + log(y)));

  // The front of these two: nothing to its left is lower.
  let lowest = Infinity;
  const front = [];
  for (const p of [...points].sort((a, b) => a.x - b.x || a.y - b.y)) {
    if (p.y < lowest) { lowest = p.y; front.push(p); }
  }
  const steps = front.map((p, i) => (i ? `H${x.at(p.x)}V${y.at(p.y)}` : `M${x.at(p.x)},${y.at(p.y)}`));
  if (front.length > 1) svg.append(el("path", { class: "front", d: steps.join("") }));

  const onFront = new Set(front);
  for (const p of [...points].reverse()) {
    const dot = el("circle", { class: `dot${onFront.has(p) ? " on" : ""}`, cx: x.at(p.x), cy: y.at(p.y), r: 6, "data-rank": p.rank });
    dot.append(el("title", {}, p.words));
    dot.addEventListener("click", () => pick(p.rank));
    svg.append(dot);
  }
  // A number where it has room: the better rank first.
  const taken = [];
  for (const p of points) {
    const atEdge = x.at(p.x) > WIDTH - 60;
    const place = [x.at(p.x) + (atEdge ? -10 : 10), y.at(p.y) - 7];
    if (taken.some(([a, b]) => Math.abs(a - place[0]) < 18 && Math.abs(b - place[1]) < 13)) continue;
    taken.push(place);
    svg.append(el("text", { class: "name", x: place[0], y: place[1], "text-anchor": atEdge ? "end" : "start" }, String(p.rank)));
  }
  return svg;
};
