// Elements and numbers as text. Text only ever becomes a text node: a record's words are no markup.
export const make = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(key, value);
  made.append(...children);
  return made;
};

// Three significant digits, without an exponent.
const three = (value) => {
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: Math.min(digits, 6) });
};

// Both ends in the unit of the larger one: 470–504 ms.
export const range = (low, high) => {
  const [factor, unit] = high >= 1 ? [1, "s"] : high >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
  return `${three(low * factor)}–${three(high * factor)} ${unit}`;
};

export const seconds = (value) => {
  if (value >= 1) return `${three(value)} s`;
  return value >= 1e-3 ? `${three(value * 1e3)} ms` : `${three(value * 1e6)} µs`;
};
export const whole = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? Math.max(digits, 1) : digits });
export const money = (value) => (value >= 0.1 || value === 0 ? `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}` : `$${three(value)}`);
// Never a rounding that turns almost all into all.
export const share = (value) => {
  const percent = value * 100;
  if (percent > 0 && percent < 1) return "under 1 %";
  if (percent > 99 && percent < 100) return `${Math.min(Math.floor(percent * 10) / 10, 99.9)} %`;
  return `${Math.round(percent)} %`;
};
