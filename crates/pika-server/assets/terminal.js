// A shell in the guest, line by line, over the websocket of the API's exec.
"use strict";
(() => {
  const STDIN = 0;
  // Longest text that is kept on the page; older output is cut off at its beginning.
  const OUTPUT_CHARS_MAX = 200000;
  // The API takes messages of 64 KiB; a line is one message.
  const LINE_BYTES_MAX = 60000;
  const SIGINT = 2;
  const at = (id) => document.getElementById(id);
  const box = at("console"), output = at("output"), line = at("line"), state = at("console-state");
  const history = [];
  let socket = null, place = 0, decoders = {};

  function say(text, look) { state.textContent = text; state.className = `badge ${look}`; }

  function write(text) {
    const follows = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
    output.append(text);
    if (output.textContent.length > OUTPUT_CHARS_MAX) output.textContent = output.textContent.slice(-OUTPUT_CHARS_MAX / 2);
    if (follows) output.scrollTop = output.scrollHeight;
  }

  function finish(message) {
    const end = JSON.parse(message);
    if ("exited" in end) write(`\n[the shell ended with ${end.exited}]\n`);
    else write(`\n[${end.failed.message}]\n`);
  }

  function connect() {
    if (socket) socket.close();
    const url = new URL(box.dataset.exec, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(url);
    socket = mine;
    decoders = {};
    mine.binaryType = "arraybuffer";
    say("connecting", "pending");
    mine.onopen = () => {
      mine.send(JSON.stringify({ command: [], terminal: null }));
      say("connected", "ready");
      line.focus();
    };
    mine.onmessage = (event) => {
      if (typeof event.data === "string") { finish(event.data); return; }
      const bytes = new Uint8Array(event.data);
      const decoder = decoders[bytes[0]] ??= new TextDecoder();
      write(decoder.decode(bytes.subarray(1), { stream: true }));
    };
    mine.onclose = () => { if (socket === mine) { socket = null; say("not connected", ""); } };
  }

  at("input").addEventListener("submit", (event) => {
    event.preventDefault();
    const bytes = new TextEncoder().encode(line.value + "\n");
    if (bytes.length > LINE_BYTES_MAX) { write("[the line is too long]\n"); return; }
    if (!socket || socket.readyState !== WebSocket.OPEN) { write("[not connected: begin a new shell]\n"); return; }
    const message = new Uint8Array(bytes.length + 1);
    message[0] = STDIN;
    message.set(bytes, 1);
    socket.send(message);
    write(`$ ${line.value}\n`);
    if (line.value) history.push(line.value);
    place = history.length;
    line.value = "";
  });
  line.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    place = Math.min(Math.max(place + step, 0), history.length);
    line.value = history[place] ?? "";
  });
  at("interrupt").addEventListener("click", () => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ signal: SIGINT }));
  });
  at("connect").addEventListener("click", connect);
  box.hidden = false;
  connect();
})();
