// Keeps a page true without a reload: the server's events say when, the page as the server writes it says what.
// Regions with the attribute data-live are replaced, and nothing else. Without this script every page works the same.
"use strict";
(() => {
  const events = document.body.dataset.events;
  if (!events) return;
  const lost = document.getElementById("lost");
  // Several events come at a time; one look at the page does for all of them.
  const GATHER_MS = 150;
  // Times are said as seen from now, so they age.
  const AGE_MS = 30000;
  const TRY_AGAIN_MS = 3000;
  const KINDS = ["operation_requested", "operation_started", "operation_step", "operation_finished", "state_changed", "backup_created"];
  let timer = null, looking = false, again = false, source = null, gone = false, last = null;

  function mark(isLost) { if (!gone) lost.hidden = !isLost; }

  // Each reading of a page has new keys for its forms. They alone are no reason to take a button from under a finger.
  function same(old, next) {
    const copy = next.cloneNode(true);
    const keys = old.querySelectorAll("input[name=key]");
    copy.querySelectorAll("input[name=key]").forEach((input, at) => input.setAttribute("value", keys[at]?.getAttribute("value") ?? ""));
    return copy.isEqualNode(old);
  }

  function replace(fresh) {
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(old.id);
      if (!next || same(old, next)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      const open = [...old.querySelectorAll("details[open]")].map((details) => details.id);
      old.replaceChildren(...document.importNode(next, true).childNodes);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }

  async function look() {
    if (looking) { again = true; return; }
    looking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual", cache: "no-store" });
      if (answer.ok) {
        replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
        if (source?.readyState === EventSource.OPEN) mark(false);
      } else if (answer.type === "opaqueredirect" || answer.status === 404) {
        // Signed out, or the agent is gone: the server says so better than this script.
        gone = true;
        source?.close();
        location.reload();
      } else {
        mark(true);
      }
    } catch {
      mark(true);
    } finally {
      looking = false;
      if (again) { again = false; soon(); }
    }
  }

  function soon() {
    if (timer === null && !gone) timer = setTimeout(() => { timer = null; look(); }, GATHER_MS);
  }

  // A browser has few connections to one server: a page that nobody sees gives its own back, and goes on where it was.
  function listen() {
    source?.close();
    if (gone || document.hidden) return;
    const url = new URL(events, location.href);
    if (last !== null) url.searchParams.set("after", last);
    const mine = new EventSource(url);
    source = mine;
    mine.onopen = () => {
      if (!lost.hidden) soon();
      mark(false);
    };
    mine.onerror = () => {
      mark(true);
      // The browser tries again by itself, unless the server answered with something else than a stream.
      if (mine.readyState === EventSource.CLOSED && mine === source) { soon(); setTimeout(listen, TRY_AGAIN_MS); }
    };
    for (const kind of KINDS) mine.addEventListener(kind, (event) => { last = event.lastEventId || last; soon(); });
  }

  listen();
  setInterval(() => { if (!document.hidden) soon(); }, AGE_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); return; }
    listen();
    soon();
  });
  addEventListener("pagehide", () => { gone = true; source?.close(); });
  addEventListener("pageshow", (event) => { if (event.persisted) { gone = false; listen(); } });
})();
