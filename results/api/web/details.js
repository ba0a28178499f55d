// What stands behind one row: reservations, configuration, evidence, and how to deploy it.
import { ask, tokenNeeded } from "./asking.js";
import { trainingFacts } from "./training.js";
import { make, money, seconds } from "./words.js";

const PLATFORMS = [["command", "command line"], ["kubernetes", "Kubernetes"], ["serve", "Ray Serve"], ["rayservice", "KubeRay RayService"]];
const OF_TRAINING = [["run", "a spec of windtunnel run"], ["command", "torchrun"], ["rayjob", "KubeRay RayJob"], ["kubernetes", "Kubernetes Job"]];

const facts = (pairs) => make("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== "" && value !== null).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));

export const details = (one, answer) => {
  const { profile } = one;
  const inside = make("div", { class: "inside" });
  const said = [...one.flags.map((flag) => answer.flags[flag]), ...one.notes];
  if (said.length) inside.append(make("h3", {}, "Before you follow it"), make("ul", { class: "plain" }, ...said.map((text) => make("li", {}, text))));
  inside.append(deploy(one), make("h3", {}, profile.evidence.estimated ? "What was estimated" : "What was measured"), measured(one), make("h3", {}, "Evidence"), evidence(profile.evidence), configuration(profile.configuration));
  return inside;
};

const measured = (one) => {
  const { load, machine } = one.profile;
  const n = (value, unit) => (value === null ? "" : `${value.toLocaleString("en", { maximumSignificantDigits: 4 })} ${unit}`);
  const cost = one.cost;
  return facts([
    ["load of one replica", [n(load.rate_rps, "requests/s"), n(load.concurrency, "in flight")].filter(Boolean).join(", ")],
    ["lengths", [n(load.input_tokens, "in"), n(load.output_tokens, "out")].filter(Boolean).join(", ")],
    ...(one.training ? trainingFacts(one) : []),
    ["machine", [machine.machine_type, machine.topology, machine.capacity, machine.zone || machine.region].filter(Boolean).join(", ")],
    ["whole request", one.e2e_s === null ? "" : seconds(one.e2e_s)],
    ["idle cost", cost.usd_idle_per_hour === null ? "" : `${money(cost.usd_idle_per_hour)}/h`],
    ["one start costs", cost.usd_startup === null ? "" : money(cost.usd_startup)],
    ["price from", cost.price === null ? cost.reason : cost.price.source],
  ]);
};

// A link would be followed without the tab's token, so the page asks for the record and shows it.
const recordOf = (id, place) => {
  const button = make("button", { type: "button", class: "link", "aria-expanded": "false" }, id);
  button.addEventListener("click", async () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    for (const other of place.parentNode.querySelectorAll("button.link")) other.setAttribute("aria-expanded", "false");
    place.replaceChildren();
    if (isOpen) return;
    button.setAttribute("aria-expanded", "true");
    const { status, body } = await ask(`/v1/runs/${id}`);
    if (button.getAttribute("aria-expanded") !== "true") return; // closed, or another was asked for since
    if (status === 401) return tokenNeeded();
    const text = status === 200 ? JSON.stringify(body, null, 2) : `${body.found}. ${body.what_to_do}.`;
    place.replaceChildren(make("pre", { tabindex: "0", "aria-label": `Record of run ${id}` }, text));
  });
  return button;
};

const evidence = (found) => {
  const runs = make("span", {}), place = make("div", {});
  found.run_ids.slice(-5).forEach((id, i) => runs.append(i ? ", " : "", recordOf(id, place)));
  if (found.run_ids.length > 5) runs.append(` and ${found.run_ids.length - 5} before`);
  const day = (text) => text.slice(0, 10);
  const told = facts([
    ["kind", found.source ? `${found.kind}: ${found.source}` : found.kind],
    [found.estimated ? "rests on runs of" : "measured", day(found.first_measured) === day(found.last_measured) ? day(found.last_measured) : `${day(found.first_measured)} to ${day(found.last_measured)}`],
    ["environment", found.environment],
    ["why stale", found.why_stale],
    ["runs", runs],
  ]);
  return make("div", {}, told, place);
};

const configuration = (what) => {
  const lines = Object.entries(what.engine_args).map(([name, value]) => `--${name}${value === true ? "" : ` ${typeof value === "object" ? JSON.stringify(value) : value}`}`);
  const env = Object.entries(what.env).map(([name, value]) => `${name}=${value}`);
  const text = [...env, ...lines].join("\n") || "engine defaults: no argument was given";
  return make("details", {}, make("summary", {}, "Configuration"), make("pre", { tabindex: "0" }, text));
};

// ---- the manifest ----

const deploy = (one) => {
  const select = make("select", { id: `platform-${one.profile.profile_id}` }, ...(one.training ? OF_TRAINING : PLATFORMS).map(([value, text]) => make("option", { value }, text)));
  const copy = make("button", { type: "button", class: "small" }, "Copy");
  const said = make("span", { role: "status", class: "note" });
  const text = make("pre", { tabindex: "0", "aria-label": "Manifest" }, "…");
  const notes = make("ul", { class: "plain" });
  const load = async () => {
    const params = new URLSearchParams({ profile_id: one.profile.profile_id, platform: select.value, replicas: String(one.replicas) });
    const { status, body } = await ask(`/v1/manifests?${params}`);
    text.textContent = status === 200 ? body.documents.map((d) => d.content.trimEnd()).join("\n---\n") : `${body.found}. ${body.what_to_do}.`;
    copy.disabled = status !== 200;
    notes.replaceChildren(...(status === 200 ? body.comments : []).map((comment) => make("li", {}, comment)));
    said.textContent = "";
  };
  select.addEventListener("change", load);
  copy.addEventListener("click", async () => { said.textContent = (await copied(text)) ? "copied" : "select it and copy by hand"; });
  load();
  return make("div", {}, make("h3", {}, "Deploy it"), make("div", { class: "row" }, make("label", { for: select.id }, "as"), select, copy, said), text, notes);
};

// Browsers give the clipboard to secure pages only, and http to another host is none.
const copied = async (element) => {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
};
