// What a training's row says: its figures with their intervals, instead of latencies.
import { make, money, range, seconds, share, whole } from "./words.js";

export const isTraining = (answer) => answer.question.use_case === "training";

export const TRAINING_COLUMNS = ["step", "tokens/s", "MFU"];

const KNOBS = { strategy: "", micro_batch_size: "micro batch", gradient_accumulation_steps: "accumulation", activation_checkpointing: "recompute", precision: "", compile: "compile" };

// The configuration in a line: torch 2.13.0, fsdp 8, fsdp2, micro batch 2, …
export const trainedHow = (profile) => {
  const { engine_args: args, parallelism, model_server, model_server_version } = profile.configuration;
  const knobs = Object.entries(KNOBS).filter(([name]) => name in args && ![false, "none"].includes(args[name]) && !(name === "gradient_accumulation_steps" && args[name] === 1)).map(([name, text]) => [text, args[name] === true ? "" : args[name]].filter((part) => part !== "").join(" "));
  const step = `${profile.training.sequences_per_step} × ${profile.training.sequence_length} tokens a step`;
  return [[model_server, model_server_version].filter(Boolean).join(" "), ...Object.entries(parallelism).map(([name, n]) => `${name} ${n}`), ...knobs, step].join(", ");
};

const interval = (between, show) => (between.low === null || (between.high !== null && show(between.low) === show(between.high)) ? null : make("small", {}, between.high === null ? `${show(between.low)} or more` : `${show(between.low)}–${show(between.high)}`));

const cell = (label, between, show, ...more) => {
  const made = make("td", { class: "number", role: "cell", "data-label": label });
  made.append(between === null ? "n/a" : show(between.value), ...more);
  const said = between === null ? null : interval(between, show);
  if (said !== null) made.append(said);
  return made;
};

export const trainingCells = ({ training: t }) => {
  const step = make("td", { class: "number", role: "cell", "data-label": "step" }, t.step_time_s === null ? "n/a" : seconds(t.step_time_s.value));
  if (t.step_time_s !== null && t.step_time_s.low !== null) step.append(make("small", {}, range(t.step_time_s.low, t.step_time_s.high)));
  const rate = cell("tokens/s", t.tokens_per_s, whole);
  if (t.tokens_per_s_per_chip !== null) rate.append(make("small", {}, `${whole(t.tokens_per_s_per_chip.value)} per chip`));
  return [step, rate, cell("MFU", t.mfu, share)];
};

export const trainingCost = (one) => {
  const { training: t, cost } = one;
  const made = make("td", { class: "number", role: "cell", "data-label": "cost" });
  made.append(cost.usd_per_hour === null ? "no price" : `${money(cost.usd_per_hour)}/h`);
  if (t.usd_per_million_tokens !== null) made.append(make("small", {}, `${money(t.usd_per_million_tokens.value)}/M tokens`));
  if (t.usd !== null) made.append(make("small", {}, `${money(t.usd.value)} in all`));
  if (t.hours !== null) made.append(make("small", {}, `${whole(t.hours.value, 1)} h`));
  if (cost.price !== null) made.append(make("small", {}, `${cost.price.capacity}, ${cost.price.as_of}`));
  return made;
};

// Money against time, of the whole training where its tokens were asked.
export const trainingPoint = ({ training: t }) => {
  const x = t.usd ?? t.usd_per_million_tokens;
  const y = t.hours === null ? (t.tokens_per_s === null ? null : 1e6 / t.tokens_per_s.value) : t.hours.value;
  return x === null || y === null ? null : { x: x.value, y };
};

// What a point's money is per, the names of the axes, and how a time is shown.
export const trainingAxes = (answer) =>
  answer.question.training_tokens === null
    ? ["/M tokens", "cost, $ per million tokens", "time of a million tokens", seconds]
    : ["", "cost, $ in all", "time of the whole training", (hours) => `${whole(hours, 1)} h`];

export const trainingFacts = ({ training: t, profile }) => {
  const bytes = (b) => `${whole(b.value / 2 ** 30, 1)} GiB`;
  const known = (between, show) => (between === null ? "" : show(between));
  return [
    ["step", `${profile.training.sequences_per_step} sequences of ${profile.training.sequence_length} tokens (${profile.training.data})`],
    ["steps of a run", String(profile.training.num_steps)],
    ["steps in all", t.num_steps === null ? "" : whole(t.num_steps)],
    ["memory of a rank", known(t.peak_memory_bytes, bytes)],
    ["startup", known(t.startup_s, (b) => seconds(b.value))],
    ["goodput of the run", known(t.goodput, (b) => share(b.value))],
    ["loss at its end", known(t.final_loss, (b) => b.value.toLocaleString("en", { maximumSignificantDigits: 4 }))],
  ];
};
