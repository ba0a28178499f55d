// One request, with the tab's token where there is one.
import { make } from "./words.js";

const token = () => sessionStorage.getItem("token") ?? "";

export const ask = async (path) => {
  try {
    const headers = token() ? { authorization: `Bearer ${token()}` } : {};
    const reply = await fetch(path, { headers });
    return { status: reply.status, body: await reply.json() };
  } catch (error) {
    return { status: 0, body: { found: `the server did not answer (${error.message})`, what_to_do: "Look whether it still runs" } };
  }
};

export const tokenNeeded = () => {
  const form = document.getElementById("token-form");
  const field = document.getElementById("token");
  form.hidden = false;
  document.getElementById("said").textContent = token() ? "That is not the server’s token" : "A token is needed";
  document.getElementById("answer").replaceChildren(make("p", {}, "Whoever started the server has it."));
  field.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", field.value.trim());
    form.hidden = true;
    field.value = "";
    dispatchEvent(new Event("token"));
  };
};
