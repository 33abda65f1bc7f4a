// The script of the page. It fills in texts alone, never markup: what comes from OctoPrint is not
// to be trusted. Its addresses are relative, so that the page works below any path.

const by = (id) => document.getElementById(id);
const isReadOnly = document.body.hasAttribute("data-read-only");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Writes a text if it is another one: screen readers announce what is written. */
function write(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

// --- Formats

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const words = (text) => text.replaceAll("_", " ");
const group = (name) => (name === "gcode" ? "G-code" : capital(words(name)));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const heater = (name) => capital(name.replace(/(\d+)$/, " $1"));
const degrees = (value) => (value === null ? "unknown" : number.format(value) + " °C");

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return "less than a minute";
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  const parts = [[days, "d"], [hours, "h"], [days ? 0 : minutes % 60, "min"]];
  return parts.filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

function time(at) {
  const node = element("time");
  const date = new Date(at);
  if (!at || isNaN(date)) return node;
  node.dateTime = at;
  const today = date.toDateString() === new Date().toDateString();
  node.textContent = today
    ? date.toLocaleTimeString()
    : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return node;
}

/** An address that a link may lead to: others could be scripts. */
const isWeb = (address) => /^https?:\/\//i.test(address || "");

// --- Questions to the bridge

async function ask(question) {
  let answer;
  try {
    answer = await fetch("ask", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(question),
    });
  } catch {
    throw new Error("The bridge does not answer.");
  }
  if (answer.status === 401) location.reload();
  const body = await answer.json().catch(() => ({ error: `The answer was ${answer.status}.` }));
  if (!answer.ok) throw new Error(body.error || `The answer was ${answer.status}.`);
  return body.ok;
}

/** Asks with a button, which waits, and says in a line how it goes. */
async function askBy(button, line, question, doing) {
  button.disabled = true;
  line.classList.remove("bad");
  write(line, doing);
  try {
    return { ok: await ask(question) };
  } catch (error) {
    line.classList.add("bad");
    write(line, error.message);
    return null;
  } finally {
    button.disabled = false;
    if (document.activeElement === document.body && button.isConnected) button.focus();
  }
}

// --- Cards

const cards = new Map();

function cardOf(id) {
  let shown = cards.get(id);
  if (!shown) {
    const item = by("card").content.cloneNode(true).firstElementChild;
    const parts = {};
    for (const part of item.querySelectorAll("[data-is]")) parts[part.dataset.is] = part;
    shown = { item, parts, card: null, history: [] };
    cards.set(id, shown);
    const next = [...cards.keys()].filter((other) => other > id).sort()[0];
    by("cards").insertBefore(item, next ? cards.get(next).item : null);
    parts.change.addEventListener("click", () => openChange(id));
  }
  return shown;
}

function showCard(card) {
  const shown = cardOf(card.id);
  const { parts } = shown;
  const before = shown.card;
  shown.card = card;
  if (card.history) shown.history = card.history;
  const name = card.name || card.id;
  const state = words(card.state || (card.online ? "unknown" : "offline"));
  write(parts.name, name);
  write(parts.state, state);
  parts.state.className = "badge" + tone(card);
  parts.error.hidden = !card.error;
  write(parts.error, card.error || "");
  write(parts.file, card.file || "No file selected");
  parts.file.classList.toggle("none", !card.file);
  showProgress(parts, card);
  showPicture(parts.picture, before, card);
  showTemperatures(parts, card, shown.history);
  showEvent(parts.event, card);
  write(parts.socket, words(card.socket || (card.online ? "online" : "offline")));
  write(parts.rate, card.interval ? `every ${number.format(card.interval / 1000)} s` : "unknown");
  write(parts.id, card.id);
  parts.url.hidden = !isWeb(card.url);
  if (isWeb(card.url)) parts.url.href = card.url;
  parts.url.setAttribute("aria-label", `OctoPrint of ${name} in a new tab`);
  write(parts.origin, card.added ? "" : "from the configuration");
  parts.change.hidden = isReadOnly || !card.added;
  parts.change.setAttribute("aria-label", `Change ${name}`);
  if (before && before.state !== card.state) write(by("said"), `${name}: ${state}`);
}

function tone(card) {
  if (!card.online || card.state === "error") return " wrong";
  return ["printing", "finishing", "starting", "resuming"].includes(card.state) ? " good" : "";
}

function showProgress(parts, card) {
  const done = card.completion;
  const has = done !== null;
  parts.progress.hidden = !has;
  const texts = [];
  if (has) {
    parts.progress.value = done;
    parts.progress.setAttribute("aria-label", "Progress");
    texts.push(`${number.format(done)} %`);
  }
  if (card.time_left !== null) texts.push(`${duration(card.time_left)} left`);
  write(parts.left, texts.join(" · "));
}

function showPicture(image, before, card) {
  image.hidden = card.picture === null;
  if (card.picture === null) {
    image.removeAttribute("src");
  } else if (!before || before.picture !== card.picture) {
    image.src = `picture/${encodeURIComponent(card.id)}?v=${card.picture}`;
  }
  image.alt = card.file ? `Preview of ${card.file}` : "Preview";
}

function showEvent(node, card) {
  const key = `${card.last_event} ${card.last_event_at}`;
  if (!card.last_event || node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren(element("span", capital(words(card.last_event))), " ", time(card.last_event_at));
}

function showTemperatures(parts, card, history) {
  parts.heat.hidden = card.temperatures.length === 0;
  if (card.history) drawGraph(parts.graph, card, history);
  const key = JSON.stringify(card.temperatures);
  if (parts.temperatures.dataset.key === key) return;
  parts.temperatures.dataset.key = key;
  const rows = card.temperatures.map((reading, index) => {
    const row = element("div");
    const target = reading.target ? ` of ${degrees(reading.target)}` : "";
    const term = element("dt", heater(reading.heater));
    const swatch = drawn("svg", { class: "swatch", viewBox: "0 0 16 8", "aria-hidden": "true" });
    swatch.append(drawn("path", { class: `h${index % 4}`, d: "M0 4H16" }));
    term.prepend(swatch);
    row.append(term, element("dd", degrees(reading.actual) + target));
    return row;
  });
  parts.temperatures.replaceChildren(...rows);
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draws the last ten minutes, and says them in words. */
function drawGraph(svg, card, history) {
  const [width, height, points] = [240, 60, 120];
  const top = Math.max(50, ...history.flat().filter((value) => value !== null)) * 1.05;
  const title = drawn("title", {});
  const said = [];
  const lines = card.temperatures.map((reading, index) => {
    let path = "";
    const values = [];
    history.forEach((point, at) => {
      const value = point[index];
      if (value === null || value === undefined) return;
      const x = width - ((history.length - 1 - at) * width) / (points - 1);
      const y = height - (Math.max(value, 0) * height) / top;
      path += `${values.length ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      values.push(value);
    });
    if (values.length) {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      said.push(`${heater(reading.heater)} from ${number.format(low)} to ${degrees(high)}`);
    }
    return drawn("path", { class: `h${index % 4}`, d: path || "M0 0" });
  });
  title.textContent = `Temperatures of the last ten minutes: ${said.join("; ") || "none yet"}`;
  svg.replaceChildren(title, ...lines);
}

function showCards({ ids, cards: changed }) {
  changed.forEach(showCard);
  for (const [id, shown] of cards) {
    if (ids.includes(id)) continue;
    const hadFocus = shown.item.contains(document.activeElement);
    shown.item.remove();
    cards.delete(id);
    if (hadFocus) by("printers").focus();
  }
  by("none").hidden = cards.size > 0;
}

// --- Broker, pairing, log

function showBroker(broker) {
  write(by("broker-state"), broker.connected ? "connected" : "not connected");
  by("broker-state").className = "badge " + (broker.connected ? "good" : "wrong");
  write(by("broker-address"), broker.address);
  by("broker-error").hidden = !broker.error;
  write(by("broker-error"), broker.error || "");
  write(by("broker-waiting"), number.format(broker.waiting));
  write(by("broker-dropped"), number.format(broker.dropped));
  write(by("broker-subscribers"), number.format(broker.for_subscribers));
  write(by("broker-home"), number.format(broker.for_home_assistant));
}

function pairingText(pairing) {
  const name = pairing.name || pairing.url;
  if (pairing.outcome === "waiting") return `${name}: click Allow in OctoPrint at ${pairing.url}.`;
  if (pairing.outcome === "allowed") return `${name} is added.`;
  return `${name} is not added: ${pairing.outcome}`;
}

/** The result of a pairing that has been read. */
let readPairing = null;

function showPairing(pairing) {
  const isWaiting = pairing && pairing.outcome === "waiting";
  const key = JSON.stringify(pairing);
  by("pairing").hidden = !pairing || key === readPairing;
  if (by("pairing").hidden) return;
  by("pairing").dataset.key = key;
  by("pairing-close").hidden = isWaiting;
  const text = pairingText(pairing);
  by("pairing").classList.toggle("bad", !isWaiting && pairing.outcome !== "allowed");
  write(by("pairing-text"), text);
  const link = by("pairing-dialog");
  const address = pairing.dialog || pairing.url;
  link.hidden = !isWaiting || !isWeb(address);
  if (isWeb(address)) link.href = address;
  if (by("pairing-cancel")) by("pairing-cancel").hidden = !isWaiting;
}

let lastLine = 0;

function showLog(lines) {
  for (const line of lines) {
    if (line.number <= lastLine) continue;
    lastLine = line.number;
    const item = element("li");
    const level = element("span", line.level === "ERROR" ? "Error" : "Warning", "level");
    if (line.level === "ERROR") level.classList.add("bad");
    item.append(time(line.at), " ", level, " ");
    if (line.printer) item.append(element("span", line.printer, "printer"), " ");
    item.append(element("span", line.text));
    by("lines").prepend(item);
  }
  while (by("lines").childElementCount > 100) by("lines").lastElementChild.remove();
  by("log-none").hidden = lastLine > 0;
  by("lines").hidden = lastLine === 0;
}

// --- Live events

const shows = { cards: showCards, pairing: showPairing, broker: showBroker, log: showLog };
/** Ends the stream of events. */
let stream = new AbortController();
let retry = 0;

async function showEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) || [];
      if (name in shows) shows[name](JSON.parse(data));
    }
  }
}

function disconnect() {
  clearTimeout(retry);
  stream.abort();
}

/** Not with EventSource, which takes one type alone: by that type, some proxies hold events back. */
async function connect() {
  disconnect();
  const own = (stream = new AbortController());
  let isLost = true;
  try {
    const answer = await fetch("events", { signal: own.signal });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (answer.ok) {
      by("lost").hidden = true;
      await showEvents(answer.body);
      // The bridge ends it now and then.
      isLost = false;
    }
  } catch { /* It is lost, or was ended here. */ }
  if (own.signal.aborted) return;
  by("lost").hidden = !isLost;
  retry = setTimeout(connect, isLost ? 5000 : 500);
}

/** A page that nobody sees costs nothing. */
function followVisibility() {
  if (document.visibilityState === "visible") {
    connect();
  } else {
    disconnect();
  }
}

// --- Dialogs

const open = (dialog) => { if (!dialog.open) dialog.showModal(); };

async function search() {
  by("found").replaceChildren();
  const answer = await askBy(by("search"), by("found-text"), { ask: "discover" }, "Looking for OctoPrint in the network…");
  if (!answer) return;
  const found = answer.ok.octoprints;
  const none = answer.ok.note || "No OctoPrint was found. Is it on, and in the same network?";
  write(by("found-text"), found.length ? `Found: ${found.length}` : capital(none));
  if (!found.length && by("add-url") && document.activeElement.tagName !== "INPUT") by("add-url").focus();
  for (const one of found) {
    const address = one.url || one.address;
    const name = one.name || address;
    const marks = [address, one.configured && "already here", one.login && "wants a user and password in the address"];
    const item = element("li");
    const choose = element(isReadOnly ? "div" : "button");
    choose.append(element("span", name), element("span", marks.filter(Boolean).join(" · "), "quiet"));
    if (!isReadOnly) {
      choose.type = "button";
      choose.addEventListener("click", () => {
        by("add-url").value = address;
        if (!by("add-name").value) by("add-name").value = one.name || "";
        by("add-name").focus();
      });
    }
    item.append(choose);
    by("found").append(item);
  }
}

async function pair(event) {
  event.preventDefault();
  const form = by("add-form");
  const question = { ask: "pair", url: form.elements.url.value, name: form.elements.name.value, id: form.elements.id.value };
  const answer = await askBy(event.submitter || form.querySelector("[type=submit]"), by("add-text"), question, "Asking OctoPrint…");
  if (!answer) return;
  write(by("add-text"), "");
  form.reset();
  by("add-dialog").close();
  by("pairing").scrollIntoView({ block: "nearest" });
}

async function check() {
  open(by("check-dialog"));
  by("findings").replaceChildren();
  const answer = await askBy(by("check"), by("check-text"), { ask: "check" }, "Trying every OctoPrint and the broker…");
  if (!answer) return;
  const findings = answer.ok;
  const wrong = findings.filter((finding) => !finding.ok).length;
  write(by("check-text"), wrong ? `Problems: ${wrong} of ${findings.length}` : "Everything works.");
  for (const finding of findings) {
    const item = element("li");
    const mark = element("strong", finding.ok ? "✓ Works" : "✗ Fails", finding.ok ? "" : "bad");
    item.append(mark, ` · ${finding.what}: ${finding.text}`);
    by("findings").append(item);
  }
}

let changing = null;

function openChange(id) {
  const { card } = cards.get(id);
  changing = id;
  write(by("change-title"), `Change ${card.name || id}`);
  write(by("change-text"), "");
  by("change-name").value = card.name;
  const legend = by("groups").querySelector("legend");
  const boxes = Object.entries(card.commands).map(([name, isOn]) => {
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.name = `group-${name}`;
    box.dataset.group = name;
    box.checked = isOn;
    label.append(box, group(name));
    return label;
  });
  by("groups").replaceChildren(legend, ...boxes);
  open(by("change-dialog"));
}

async function saveChange(event) {
  event.preventDefault();
  const shown = cards.get(changing);
  if (!shown) return by("change-dialog").close();
  const { card } = shown;
  const button = event.submitter || by("change-form").querySelector("[type=submit]");
  const [id, name] = [changing, by("change-name").value.trim()];
  const groups = {};
  for (const box of by("groups").querySelectorAll("input")) {
    if (box.checked !== card.commands[box.dataset.group]) groups[box.dataset.group] = box.checked;
  }
  const questions = [];
  if (name !== card.name) questions.push({ ask: "rename", id, name });
  if (Object.keys(groups).length) questions.push({ ask: "groups", id, groups });
  for (const question of questions) {
    if (!await askBy(button, by("change-text"), question, "Saving…")) return;
  }
  // Until the bridge tells of it itself.
  if (cards.has(id)) Object.assign(cards.get(id).card.commands, groups);
  by("change-dialog").close();
}

async function remove() {
  const id = changing;
  if (!await askBy(by("remove-now"), by("remove-text"), { ask: "remove", id }, "Removing…")) return;
  by("remove-dialog").close();
  by("change-dialog").close();
  by("printers").focus();
}

function openRemove() {
  const shown = cards.get(changing);
  write(by("remove-title"), `Remove ${(shown && shown.card.name) || changing}?`);
  write(by("remove-text"), "");
  open(by("remove-dialog"));
}

function listen() {
  const click = (id, act) => by(id) && by(id).addEventListener("click", act);
  for (const button of document.querySelectorAll("dialog .close")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  const openAdd = () => { open(by("add-dialog")); search(); };
  click("add", openAdd);
  click("find", openAdd);
  click("search", search);
  click("check", check);
  click("remove", openRemove);
  click("remove-now", remove);
  click("pairing-cancel", () => askBy(by("pairing-cancel"), by("pairing-text"), { ask: "cancel_pairing" }, "Cancelling…"));
  click("pairing-close", () => {
    readPairing = by("pairing").dataset.key;
    by("pairing").hidden = true;
    by("printers").focus();
  });
  click("allow", async () => {
    const answer = await askBy(by("allow"), by("allow-text"), { ask: "allow_mqtt_pairing" }, "");
    if (answer) write(by("allow-text"), "Allowed until " + new Date(Date.now() + 300000).toLocaleTimeString() + ".");
  });
  if (by("add-form")) by("add-form").addEventListener("submit", isReadOnly ? (event) => event.preventDefault() : pair);
  if (by("change-form")) by("change-form").addEventListener("submit", saveChange);
}

// --- Start

async function leaveLogin() {
  // A link on another site leads here without the session.
  const session = await fetch("session").catch(() => null);
  if (session && session.ok) location.replace("./");
}

if (document.body.dataset.page === "login") {
  // Browsers do not always, after a login that was refused.
  by("password").focus();
  leaveLogin();
} else {
  listen();
  connect();
  document.addEventListener("visibilitychange", followVisibility);
}
