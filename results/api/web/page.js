// The page over the same API that everybody has: the form is a query string, the answer is shown.
import { details } from "./details.js";
import { ask, tokenNeeded } from "./asking.js";
import { make, money, range, seconds, share, whole } from "./words.js";
import { tradeOff } from "./plot.js";
import { isTraining, TRAINING_COLUMNS, trainedHow, trainingAxes, trainingCells, trainingCost, trainingPoint } from "./training.js";

const $ = (id) => document.getElementById(id);
const form = $("question");
let asked = 0; // answers to older questions come too late and are dropped

// ---- the form as a query, and back ----

const query = () => {
  const params = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (String(value).trim() !== "") params.append(name, String(value).trim());
  }
  const serving = $("use_case").value !== "training";
  if (serving && $("load").value.trim() !== "") params.set($("load_kind").value, $("load").value.trim());
  if (![...params.keys()].some((name) => name.startsWith("target_"))) params.delete("percentile");
  return params;
};

// What is of the other use case is out of the question: a disabled field is not asked.
const suit = () => {
  const training = $("use_case").value === "training";
  for (const part of form.querySelectorAll(".of-training, .of-serving")) {
    const off = part.classList.contains("of-training") !== training;
    part.hidden = off;
    for (const field of part.matches("fieldset") ? [part] : part.querySelectorAll("input")) field.disabled = off;
  }
};

const fill = (params) => {
  for (const [name, value] of params) {
    if (name === "rate_rps" || name === "concurrency") {
      $("load_kind").value = name;
      $("load").value = value;
      continue;
    }
    const fields = form.elements.namedItem(name);
    if (fields === null) continue;
    const boxes = fields instanceof RadioNodeList ? [...fields] : [fields];
    for (const box of boxes) {
      if (box.type === "radio" || box.type === "checkbox") {
        if (box.value === value) box.checked = true;
      } else box.value = value;
      if ($("more").contains(box) && box.value !== "") $("more").open ||= box.type !== "checkbox" || box.checked;
    }
  }
  suit();
};

const markWrong = (errors) => {
  for (const box of form.querySelectorAll("[aria-invalid]")) {
    box.removeAttribute("aria-invalid");
    box.removeAttribute("aria-describedby");
  }
  for (const old of form.querySelectorAll(".field-error")) old.remove();
  let first = null;
  for (const { field, message } of errors) {
    const name = field === "rate_rps" || field === "concurrency" ? "load" : field;
    const box = $(name);
    if (!box || !form.contains(box)) continue;
    const said = make("p", { class: "field-error", id: `${name}-error` }, message);
    box.setAttribute("aria-invalid", "true");
    box.setAttribute("aria-describedby", said.id);
    box.after(said);
    first ??= box;
  }
  if (first !== null && $("more").contains(first)) $("more").open = true;
  first?.focus();
};

// ---- asking ----

const submit = async () => {
  const params = query();
  const mine = (asked += 1);
  history.replaceState(null, "", params.size ? `?${params}` : location.pathname);
  $("result").setAttribute("aria-busy", "true");
  const { status, body } = await ask(`/v1/recommendations?${params}`);
  if (mine !== asked) return;
  $("result").setAttribute("aria-busy", "false");
  if (status === 401) return tokenNeeded(submit);
  markWrong(status === 400 ? body.errors ?? [] : []);
  if (status !== 200) return refused(body);
  show(body, params);
};

const refused = (problem) => {
  $("said").textContent = "That could not be answered";
  $("answer").replaceChildren(
    make("p", { class: "banner bad" }, `${problem.found}. ${problem.what_to_do}.`),
  );
};

// ---- the answer ----

const show = (answer, params) => {
  const found = answer.recommendations;
  if (answer.no_answer === null) {
    const best = found[0];
    const cost = best.cost.usd_per_hour === null ? "no price is known for it" : `${money(best.cost.usd_per_hour)} an hour`;
    const many = answer.num_feasible === 1 ? "One deployment does" : `${whole(answer.num_feasible)} deployments do`;
    // A trade-off may show one deployment at several loads.
    const shown = found.length < answer.num_feasible ? `, the best ${found.length} are shown` : found.length > answer.num_feasible ? `, in ${found.length} ways` : "";
    $("said").textContent = `${many} what was asked${shown}. First: ${hardware(best)}, ${cost}.`;
    $("answer").replaceChildren(
      table(found, answer, `Best first: ${objectiveWords(answer)}`),
      ...picture(found, answer),
      ...comments(answer),
      curl(params),
    );
  } else {
    $("said").textContent = "Nothing measured does all of this";
    $("answer").replaceChildren(...noAnswer(answer), ...comments(answer), curl(params));
  }
};

const objectiveWords = (answer) =>
  ({ cheapest: "the cheapest", fastest: "the fastest", throughput: `the most ${isTraining(answer) ? "" : "output "}tokens per second per chip`, pareto: "the trade-off between cost, time and throughput" })[answer.question.objective];

const hardware = (one) => {
  const machine = one.profile.machine;
  const each = machine.num_chips === 0 ? machine.accelerator || machine.machine_type || "hardware not known" : `${machine.num_chips} × ${machine.accelerator}`;
  return one.replicas === 1 ? each : `${one.replicas} replicas of ${each}`;
};

const parallel = (configuration) =>
  Object.entries(configuration.parallelism).filter(([, n]) => n > 1).map(([name, n]) => `${name} ${n}`).join(", ");

const statistic = (profile, metric, names) => {
  for (const name of names) {
    const one = profile.statistics.find((s) => s.metric === metric && s.statistic === name);
    if (one && one.value !== null) return one;
  }
  return null;
};

const TYPICAL = ["value", "p50", "mean", "unstated"];
const LATENCIES = { ttft_s: "TTFT", itl_s: "ITL", tpot_s: "TPOT", ntpot_s: "NTPOT", e2e_s: "whole request" };

// Latency columns: what was limited; TTFT and TPOT where nothing was.
const columns = (answer) => {
  const limited = answer.question.targets.map((t) => ({ metric: t.metric, percentile: t.percentile, name: t.percentile === null ? t.metric : `${t.metric}_p${t.percentile}` }));
  if (limited.length) return limited;
  return [{ metric: "ttft_s", percentile: null, name: "" }, { metric: "tpot_s", percentile: null, name: "" }];
};

const latencyCell = (one, column) => {
  const label = `${LATENCIES[column.metric]}${column.percentile === null ? "" : ` p${column.percentile}`}`;
  const target = one.targets.find((t) => t.target === column.name);
  const names = column.percentile === null ? TYPICAL : [`p${column.percentile}`];
  const known = target ? statistic(one.profile, column.metric, [target.statistic]) : statistic(one.profile, column.metric, names);
  const value = target ? target.value_s : known?.value ?? null;
  const cell = make("td", { class: "number", role: "cell", "data-label": label });
  if (value === null) {
    cell.append("n/a");
    return cell;
  }
  cell.append(`${target?.is_bound ? "≤ " : ""}${seconds(value)}`);
  if (known && known.low !== null) cell.append(make("small", {}, range(known.low, known.high)));
  if (target) {
    cell.classList.add(target.met ? "kept" : "missed");
    const times = target.value_s / target.limit_s, limit = seconds(target.limit_s);
    const over = times < 2 ? `${share(times - 1)} over ${limit}` : `${whole(times)} times ${limit}`;
    cell.append(make("small", {}, target.met ? `${share(target.headroom)} below ${limit}` : over));
  }
  return cell;
};

const costCell = (one) => {
  const cost = one.cost;
  const cell = make("td", { class: "number", role: "cell", "data-label": "cost" });
  if (cost.usd_per_hour === null) {
    cell.append("no price");
    return cell;
  }
  cell.append(`${money(cost.usd_per_hour)}/h`);
  const tokens = cost.usd_per_million_output_tokens_asked ?? cost.usd_per_million_output_tokens;
  if (tokens !== null) cell.append(make("small", {}, `${money(tokens)}/M output`));
  cell.append(make("small", {}, `${cost.price.capacity}, ${cost.price.as_of}`));
  return cell;
};

const badges = (one, answer) => {
  const evidence = one.profile.evidence;
  const list = make("ul", { class: "badges" });
  const add = (tone, text) => list.append(make("li", { class: `badge ${tone}` }, text));
  add({ measured: "good", imported: "", transferred: "warn", analytic: "warn", simulated: "bad" }[evidence.kind], evidence.kind);
  add(evidence.estimated ? "bad" : "", evidence.estimated ? "not measured" : evidence.repeats === 1 ? "1 run" : `${evidence.repeats} runs`);
  const stale = one.flags.includes("stale");
  add(stale ? "warn" : "", `${stale ? "stale, " : ""}${age(evidence.last_measured, answer.answered_at)}`);
  if (one.probability !== null && one.targets.length) add(one.probability >= 0.95 ? "good" : "warn", `${share(one.probability)} sure`);
  if (one.pareto_rank === 1 && answer.no_answer === null) add("good", "on the front");
  const told = one.flags.filter((flag) => !["single_run", "stale", "no_price"].includes(flag));
  if (told.length) add("warn", told.length === 1 ? "1 reservation" : `${told.length} reservations`);
  return list;
};

export const age = (then, now) => {
  const days = Math.max((Date.parse(now) - Date.parse(then)) / 86400e3, 0);
  if (days < 1) return "today";
  return days < 60 ? `${Math.round(days)} d old` : `${Math.round(days / 30.4)} months old`;
};

// The engine arguments, three at most, by which those shown differ: two rows never look alike.
const varying = (recommendations) => {
  const all = recommendations.map((r) => r.profile.configuration.engine_args);
  const names = [...new Set(all.flatMap((found) => Object.keys(found)))];
  return names.filter((name) => !/parallel/.test(name) && new Set(all.map((found) => JSON.stringify(found[name]))).size > 1).slice(0, 3);
};

const table = (recommendations, answer, caption, misses = null) => {
  const training = isTraining(answer);
  const shown = training ? [] : columns(answer);
  const figures = training ? TRAINING_COLUMNS : [...shown.map((c) => `${LATENCIES[c.metric]}${c.percentile === null ? "" : ` p${c.percentile}`}`), "output"];
  const names = ["#", "deployment", "cost", ...figures, "evidence"];
  const numeric = (name) => !["#", "deployment", "evidence"].includes(name);
  const head = make("tr", { role: "row" }, ...names.map((name) =>
    make("th", { scope: "col", role: "columnheader", class: numeric(name) ? "number" : "" }, name)));
  const body = make("tbody", { role: "rowgroup" });
  const apart = varying(recommendations);
  recommendations.forEach((one, i) => {
    const rank = misses ? i + 1 : one.rank;
    const configuration = one.profile.configuration;
    const arguments_ = apart.filter((name) => name in configuration.engine_args).map((name) => `${name} ${configuration.engine_args[name]}`);
    const server = [configuration.model_server, configuration.model_server_version].filter(Boolean).join(" ");
    const what = training ? trainedHow(one.profile) : [server, parallel(configuration), ...arguments_].filter(Boolean).join(", ");
    const name = make("th", { scope: "row", role: "rowheader", "data-rank": `${rank}.` }, hardware(one), make("small", {}, answer.question.model ? what : `${configuration.model}, ${what}`));
    if (misses) name.append(...misses[i].map((why) => make("small", { class: "missed" }, why.words)));
    const throughput = make("td", { class: "number", role: "cell", "data-label": "output" }, one.output_tokens_per_s === null ? "n/a" : `${whole(one.output_tokens_per_s)} tok/s`);
    if (one.output_tokens_per_s_per_chip !== null) throughput.append(make("small", {}, `${whole(one.output_tokens_per_s_per_chip)} per chip`));
    if (one.utilisation !== null) throughput.append(make("small", {}, `${share(one.utilisation)} used`));
    const button = make("button", { type: "button", class: "small", "aria-expanded": "false" }, "Details", make("span", { class: "unseen" }, ` of ${rank}, ${hardware(one)}`));
    const row = make("tr", { role: "row", class: "one", "data-rank": String(rank) },
      make("td", { class: "rank", role: "cell" }, String(rank)), name, ...(training ? [trainingCost(one), ...trainingCells(one)] : [costCell(one), ...shown.map((c) => latencyCell(one, c)), throughput]),
      make("td", { role: "cell", class: "wide", "data-label": "evidence" }, badges(one, answer), button));
    button.addEventListener("click", () => toggle(row, button, one, answer, names.length));
    body.append(row);
  });
  return make("div", { class: "scroll" }, make("table", { class: "cards", role: "table" }, make("caption", {}, caption), make("thead", { role: "rowgroup" }, head), body));
};

const toggle = (row, button, one, answer, width) => {
  const opened = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!opened));
  row.classList.toggle("opened", !opened);
  if (opened) return row.nextElementSibling.remove();
  row.after(make("tr", { class: "more", role: "row" }, make("td", { colspan: String(width), role: "cell" }, details(one, answer))));
};

// ---- the picture ----

const picture = (recommendations, answer) => {
  const priced = recommendations.filter((r) => r.cost.usd_per_hour !== null && r.cost.usd_per_hour > 0);
  const asks = answer.question.rate_rps !== null || answer.question.concurrency !== null;
  const cost = (r) => (asks ? r.cost.usd_per_hour : r.cost.usd_per_million_output_tokens);
  const at = isTraining(answer) ? trainingPoint : (r) => (cost(r) && r.e2e_s ? { x: cost(r), y: r.e2e_s } : null);
  const [per, xName, yName, showY] = isTraining(answer) ? trainingAxes(answer)
    : [asks ? "/h" : "/M output tokens", asks ? "cost, $ per hour" : "cost, $ per million output tokens", "whole request, typical", seconds];
  const points = priced.map((r) => [r, at(r)]).filter(([, point]) => point !== null).map(([r, point]) => ({
    ...point, rank: r.rank,
    words: `${r.rank}. ${hardware(r)}: ${money(point.x)}${per}, ${showY(point.y)}`,
  }));
  if (points.length < 2) return [];
  const cheapest = points.reduce((a, b) => (b.x < a.x ? b : a)), fastest = points.reduce((a, b) => (b.y < a.y ? b : a));
  const description = `Cost against ${isTraining(answer) ? yName : "the time of a whole request"} for ${points.length} deployments. Cheapest: number ${cheapest.rank}, ${money(cheapest.x)}, ${showY(cheapest.y)}. Fastest: number ${fastest.rank}, ${money(fastest.x)}, ${showY(fastest.y)}. The table has the numbers.`;
  const place = make("div", { id: "plot" });
  const draw = () => {
    const width = Math.min(Math.max(place.clientWidth, 280), 832);
    place.replaceChildren(tradeOff(points, { xName, yName, showX: money, showY, description, pick, width }));
  };
  // Its width is known once it stands in the page, and again whenever that changes.
  new ResizeObserver(draw).observe(place);
  const key = (css, text) => {
    const item = make("li", {});
    item.innerHTML = `<svg viewBox="0 0 12 12" aria-hidden="true"><circle class="dot ${css}" cx="6" cy="6" r="4.5"/></svg>`;
    item.append(text);
    return item;
  };
  const missing = recommendations.length - points.length;
  const note = missing ? make("p", { class: "note" }, `${missing} of the table’s deployments are not drawn: their price or time is not known.`) : "";
  return [make("figure", {}, make("figcaption", {}, "Cost and time"), place,
    make("ul", { class: "legend" }, key("on", "nothing shown is both cheaper and faster"), key("", "the others")), note)];
};

const pick = (rank) => {
  for (const marked of document.querySelectorAll(".pointed, .picked")) marked.classList.remove("pointed", "picked");
  document.querySelector(`circle[data-rank="${rank}"]`)?.classList.add("picked");
  const row = document.querySelector(`tr.one[data-rank="${rank}"]`);
  row?.classList.add("pointed");
  row?.scrollIntoView({ block: "nearest" });
};

// ---- no answer ----

// What a limit that stands in the way is called in the form, and how it is written there.
const FIELD_OF = {};
for (const metric of Object.keys(LATENCIES)) FIELD_OF[metric] = [`target_${metric.replace(/_s$/, "")}_milliseconds`, 1000];

const fieldOf = (constraint) => FIELD_OF[constraint] ?? FIELD_OF[constraint.replace(/_p[\d.]+$/, "")] ?? ($(constraint) ? [constraint, 1] : null);

// Three digits, rounded to the side on which the relaxed limit is still kept by what it was relaxed
// for: up, or down where the limit is a least.
const roomy = (value, isLeast) => {
  const step = 10 ** (Math.floor(Math.log10(value)) - 2);
  const rounded = (isLeast ? Math.floor(value / step + 1e-4) : Math.ceil(value / step - 1e-4)) * step;
  return Number(rounded.toPrecision(3));
};

const LEAST = ["min_throughput", "min_repeats", "probability"];

const noAnswer = (answer) => {
  const why = answer.no_answer;
  const parts = [make("p", { class: "banner warn" }, why.words)];
  const actions = make("div", { class: "row" });
  const field = fieldOf(why.binding);
  if (why.relax_to !== null && field !== null) {
    const [name, factor] = field;
    const value = roomy(why.relax_to * factor, LEAST.includes(why.binding));
    const button = make("button", { type: "button" }, `Ask again: ${$(name).labels[0].textContent.replace(",", "")} ${value}`);
    button.addEventListener("click", () => { $(name).value = value; submit(); });
    actions.append(button);
  }
  if (why.relax_to === null && $("percentile").value !== "" && answer.question.targets.some((t) => why.binding.startsWith(`${t.metric}_p`))) {
    const button = make("button", { type: "button" }, "Ask again for the typical request");
    button.addEventListener("click", () => { $("percentile").value = ""; submit(); });
    actions.append(button);
  }
  for (const name of why.did_you_mean) {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => { $("model").value = name; submit(); });
    actions.append(button);
  }
  if (actions.children.length) parts.push(actions);
  if (why.nearest.length) {
    parts.push(make("h2", {}, "What comes nearest"));
    parts.push(table(why.nearest.map((n) => n.recommendation), answer, "The fewest and smallest misses first", why.nearest.map((n) => n.why_not)));
  }
  if (why.measure_next.length) {
    parts.push(make("h2", {}, "What to measure next"));
    const cost = (m) => (m.usd === null ? `${whole(m.chip_hours, 2)} chip-hours, no price known` : `${money(m.usd)} for ${whole(m.chip_hours, 2)} chip-hours`);
    parts.push(make("ol", { class: "steps" }, ...why.measure_next.map((m) => make("li", {}, make("strong", {}, m.what), ` ${m.why}`, make("small", {}, `${m.runs === 1 ? "1 run" : `${m.runs} runs`}, ${cost(m)}; ${m.basis}`)))));
  }
  if (answer.narrowing.length) {
    parts.push(make("h2", {}, "How the question narrowed it"));
    parts.push(make("ul", { class: "funnel" }, ...answer.narrowing.map((n) => make("li", {}, make("b", {}, whole(n.num_left)), make("span", {}, n.filter.replaceAll("_", " "))))));
  }
  return parts;
};

const comments = (answer) => {
  const failures = Object.entries(answer.failures).map(([error, n]) => `${n} runs ended with ${error}`);
  const said = [...answer.comments, ...(failures.length ? [`Among what fits: ${failures.join(", ")}.`] : [])];
  if (!said.length) return [];
  return [make("h2", {}, "To know"), make("ul", {}, ...said.map((text) => make("li", {}, text)))];
};

const curl = (params) => {
  const url = `${location.origin}/v1/recommendations?${params}`;
  const secret = sessionStorage.getItem("token") ? " -H \"Authorization: Bearer $TOKEN\"" : "";
  return make("details", {}, make("summary", {}, "The same by curl"), make("pre", { tabindex: "0" }, `curl -s${secret} '${url.replaceAll("'", "%27")}'`));
};

// ---- what there is to choose from ----

const choices = async () => {
  const [models, accelerators, cases] = await Promise.all(["/v1/models", "/v1/accelerators", "/v1/use-cases"].map((path) => ask(path)));
  if (models.status !== 200) return;
  const trained = models.body.trainings;
  $("models").replaceChildren(...[...models.body.models, ...trained].map((m) => make("option", { value: m.model })));
  const numbers = models.body.models.reduce((sum, m) => sum + m.num_profiles, 0);
  $("snapshot").textContent = `${whole(numbers)} profiles of ${models.body.models.length} models on ${accelerators.body.accelerators.length} kinds of hardware · state ${models.body.snapshot_id.slice(0, 12)}`;
  $("use_case").append(...cases.body.use_cases.map((c) => make("option", { value: c.name }, `${c.name}: ${c.input_tokens} in, ${c.output_tokens} out`)), ...(trained.length ? [make("option", { value: "training" }, "train the model")] : []));
  const hardwares = [...new Set([...accelerators.body.accelerators.map((a) => a.accelerator), ...trained.flatMap((m) => m.accelerators)])];
  $("accelerators").replaceChildren(...hardwares.filter(Boolean).slice(0, 24).map((name) =>
    make("label", {}, make("input", { type: "checkbox", name: "accelerators", value: name }), ` ${name}`)));
};

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await submit();
  // On a phone the answer lies below the form.
  if ($("result").getBoundingClientRect().top > innerHeight * 0.6) $("result").scrollIntoView();
});
form.addEventListener("reset", () => setTimeout(() => { suit(); submit(); }));
$("use_case").addEventListener("change", suit);
// A choice is an answer's question at once; numbers wait for Enter or the button.
form.addEventListener("change", (event) => { if (event.target.matches("select, [type=radio], [type=checkbox], #model")) submit(); });

const begin = async () => {
  await choices();
  fill(new URLSearchParams(location.search));
  await submit();
};
addEventListener("token", begin);
begin();
