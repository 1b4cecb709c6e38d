// Sends what the forms of the API's page say, and shows what comes back, also while it still comes.
"use strict";
(() => {
  // Longest answer that is shown; what goes on for ever is shown until somebody stops it.
  const SHOWN_CHARS_MAX = 200000;
  const credential = document.getElementById("credential");
  const token = document.getElementById("token");

  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

  function read(form) {
    const query = new URLSearchParams(), headers = {};
    let path = form.dataset.path, body = null;
    for (const input of form.querySelectorAll("[data-in]")) {
      const value = input.value;
      switch (input.dataset.in) {
        case "path": if (value) path = path.replace(`{${input.name}}`, encodeURIComponent(value)); break;
        case "query": if (value) query.set(input.name, value); break;
        case "header": if (value) headers[input.name] = value; break;
        case "body": if (value.trim()) body = value; break;
      }
    }
    if (body !== null) headers["Content-Type"] = "application/json";
    const asked = query.toString();
    return { method: form.dataset.method, url: location.origin + path + (asked && `?${asked}`), headers, body };
  }

  function command(form) {
    const { method, url, headers, body } = read(form);
    const parts = ["curl"];
    if (form.querySelector(".command").dataset.open !== "true") parts.push('-H "Authorization: Bearer $PIKA_TOKEN"');
    for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quote(`${name}: ${value}`)}`);
    if (method !== "GET") parts.push(`-X ${method}`);
    if (body !== null) parts.push(`-d ${quote(body.replace(/\s*\n\s*/g, " "))}`);
    form.querySelector(".command").textContent = [...parts, quote(url)].join(" ");
  }

  function pretty(text, kind) {
    if (!kind?.startsWith("application/json")) return text;
    try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
  }

  async function show(response, box) {
    const reader = response.body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      text += done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (text.length > SHOWN_CHARS_MAX) text = `[cut off at its beginning]\n${text.slice(-SHOWN_CHARS_MAX / 2)}`;
      box.textContent = text;
      if (done) break;
    }
    box.textContent = pretty(text, response.headers.get("content-type"));
  }

  async function send(form) {
    const { method, url, headers, body } = read(form);
    if (method === "DELETE" && !confirm(`${method} ${url}\n\nSend it?`)) return;
    const at = (name) => form.querySelector(name);
    const stop = at(".stop"), status = at(".status"), took = at(".took");
    const control = new AbortController();
    const options = { method, headers, body, signal: control.signal, cache: "no-store", redirect: "manual" };
    if (token.value) {
      headers.Authorization = `Bearer ${token.value.trim()}`;
      options.credentials = "omit";
    } else if (credential.dataset.csrf && method !== "GET") {
      headers["X-CSRF-Token"] = credential.dataset.csrf;
    }
    const begun = performance.now();
    const say = (text, look, more) => { status.textContent = text; status.className = `badge status ${look}`; took.textContent = more; };
    at(".answer").hidden = false;
    at(".answer .body").textContent = "";
    at(".send").disabled = true;
    stop.hidden = false;
    stop.onclick = () => control.abort();
    say("sent", "pending", "");
    try {
      const response = await fetch(url, options);
      const id = response.headers.get("x-request-id");
      say(`${response.status} ${response.statusText}`.trim(), response.ok ? "good" : "error", `${Math.round(performance.now() - begun)} ms${id ? `, request ${id}` : ""}`);
      await show(response, at(".answer .body"));
    } catch (error) {
      if (control.signal.aborted) took.textContent += ", stopped here";
      else say("no answer", "error", String(error.message ?? error));
    } finally {
      at(".send").disabled = false;
      stop.hidden = true;
    }
  }

  credential.hidden = false;
  for (const form of document.querySelectorAll("form.try")) {
    const box = form.querySelector(".command");
    box.dataset.open = String(!box.textContent.includes("Authorization"));
    command(form);
    form.addEventListener("input", () => command(form));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (form.querySelector(".send")) send(form);
    });
    form.querySelector(".buttons")?.removeAttribute("hidden");
  }
  // A link to one route opens it.
  function open() {
    const named = document.getElementById(location.hash.slice(1));
    if (named?.matches("details")) { named.open = true; named.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  open();
})();
