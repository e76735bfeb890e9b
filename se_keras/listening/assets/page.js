// --- The listening test ------------------------------------------------------------------------------------------------------------------
// The server names no system: a trial is a number, a version a letter. What a listener may be asked follows from data it sends.

const RETRY_MS = [300, 1000, 2000, 5000];  // between tries where the server is away; the last one again and again
const HEARD_S = 0.3;  // of a version, before it counts as heard
const RANGES = ["Excellent", "Good", "Fair", "Poor", "Bad"];
const QUESTIONS = {ab: "Which one sounds better?", abx: "Is X the same as A, or the same as B?",
  mushra: "How good is each one, compared with the reference?"};
const TASKS = {
  ab: "You hear the same sentence in two versions, A and B, and say which one sounds better.",
  abx: "You hear the same sentence in two versions, A and B, and as X, which is one of the two. You say which one.",
  mushra: "You hear the same sentence in several versions, and rate each from 0 (bad) to 100 (excellent), compared with a reference that " +
    "is named as such. One of the versions is the reference itself: it is to be rated 100."};
const get = id => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const wait = ms => new Promise(done => setTimeout(done, ms));

// --- Server ------------------------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, said) {
    super(said);
    this.status = status;
  }
}

class Server {
  constructor(secret) {
    this.secret = secret;
  }

  async ask(path, body) {  // JSON, or Refused with what the server said; a TypeError where it cannot be reached
    const answer = await this.fetch(path, body === undefined ? {} :
      {method: "POST", body: JSON.stringify(body), headers: {"content-type": "application/json"}});
    return answer.json();
  }

  async fetch(path, options) {
    const headers = {...options.headers, ...(this.secret ? {authorization: `Bearer ${this.secret}`} : {})};
    const answer = await fetch(path, {...options, headers});
    if (answer.status >= 500) throw new TypeError(`status ${answer.status}`);
    if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))).error ?? `status ${answer.status}`);
    return answer;
  }

  insist(path, body) {
    return patiently(() => this.ask(path, body), "The server cannot be reached. What you answered is kept here and sent again until it is " +
      "stored; please wait.");
  }

  async audio(trial, slots) {
    const fetched = await Promise.all(slots.map(slot => this.fetch(`/api/audio/${trial}/${slot}`, {}).then(answer => answer.arrayBuffer())));
    return Player.decode(Object.fromEntries(slots.map((slot, place) => [slot, fetched[place]])));
  }
}

async function patiently(work, said) {  // until it succeeds: nothing is lost while the server is away
  for (let tries = 0; ; tries++) {
    try {
      const made = await work();
      failure("");
      return made;
    } catch (error) {
      if (error instanceof Refused) throw error;
      failure(said);
      await wait(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
    }
  }
}

function failure(text) {
  get("failure").textContent = text;
  get("failure").hidden = !text;
}

function show(section) {
  for (const each of document.querySelectorAll("main > section")) each.hidden = each.id !== section;
  document.body.dataset.shown = section;
}

// --- One trial ---------------------------------------------------------------------------------------------------------------------------

class Question {
  constructor(kind, forced) {
    this.kind = kind;
    this.forced = forced;
    this.player = new Player();
    this.slots = [];
    this.answer = null;
    this.heard = new Map();
    get("play").onclick = event => this.toggle(event);
    get("next").onclick = () => this.done?.();
    document.addEventListener("keydown", event => this.key(event));
    this.keys();
    let before = performance.now();
    const tick = now => {
      this.tick((now - before) / 1000);
      before = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  get versions() {
    return this.kind === "mushra" ? ["R", ...this.slots] : this.slots;
  }

  async ask(slots, buffers) {  // the answer, and seconds that it took
    this.player.empty();
    this.player.buffers = buffers;
    this.slots = slots;
    this.heard = new Map(this.versions.map(version => [version, 0]));
    this.answer = this.kind === "mushra" ? {} : null;
    get("question").textContent = QUESTIONS[this.kind];
    get("versions").replaceChildren(...this.versions.map(version => element("button", {
      type: "button", "data-version": version, onclick: event => {
        this.choose(version);
        this.blur(event);
      }}, version === "R" ? "Ref" : version)));
    this.choose(this.versions[0]);
    this.choices();
    this.ratings();
    this.check();
    show("trial");
    get("trial").dataset.ready = "1";
    const began = performance.now();
    await new Promise(done => {
      this.done = () => {
        if (this.complete()) done();
      };
    });
    this.done = null;
    delete get("trial").dataset.ready;
    get("next").disabled = true;
    this.player.stop();
    return {answer: this.answer, seconds: (performance.now() - began) / 1000};
  }

  options() {  // [answer, its text, its key]
    if (this.kind === "abx") return [["A", "X is A", "1"], ["B", "X is B", "2"]];
    const sides = [["A", "A is better", "1"], ["B", "B is better", "2"]];
    return this.forced ? sides : [sides[0], ["none", "No preference", "0"], sides[1]];
  }

  choices() {
    get("choices").hidden = this.kind === "mushra";
    if (this.kind === "mushra") return;
    get("choices").replaceChildren(...this.options().map(([answer, text]) => element("button", {
      type: "button", role: "radio", "aria-checked": "false", "data-answer": answer, onclick: event => {
        this.decide(answer);
        this.blur(event);
      }}, text)));
  }

  decide(answer) {
    this.answer = answer;
    for (const button of get("choices").children) button.setAttribute("aria-checked", String(button.dataset.answer === answer));
    this.check();
  }

  ratings() {
    get("ratings").hidden = this.kind !== "mushra";
    if (this.kind !== "mushra") return;
    const scale = element("div", {className: "scale", "aria-hidden": "true"}, ...RANGES.map(text => element("span", {}, text)));
    get("ratings").replaceChildren(scale, ...this.slots.map(slot => {
      const output = element("output", {className: "open"}, "–");
      const slider = element("input", {type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": `rating of ${slot}`,
        oninput: () => this.rate(slot, slider.valueAsNumber), onpointerdown: () => this.choose(slot),
        onpointerup: () => this.rate(slot, slider.valueAsNumber), onfocus: () => this.choose(slot)});
      return element("div", {className: "rating", "data-version": slot}, element("b", {}, slot), slider, output);
    }));
    this.choose(this.player.version);
  }

  rate(slot, value) {
    const box = get("ratings").querySelector(`[data-version=${slot}]`), output = box.querySelector("output");
    value = Math.min(Math.max(value, 0), 100);
    this.answer[slot] = value;
    box.querySelector("input").value = value;
    output.textContent = value;
    output.className = "";
    this.check();
  }

  missing() {
    const unheard = this.versions.filter(version => this.heard.get(version) < HEARD_S).map(version => version === "R" ? "Ref" : version);
    if (unheard.length) return `Still to be heard: ${unheard.join(", ")}`;
    if (this.kind === "mushra") {
      const unrated = this.slots.filter(slot => !(slot in this.answer));
      return unrated.length ? `Still to be rated: ${unrated.join(", ")}` : "";
    }
    return this.answer === null ? "Still to be answered" : "";
  }

  complete() {
    return this.done && !this.missing();
  }

  check() {
    const missing = this.missing();
    get("missing").textContent = missing;
    get("next").disabled = Boolean(missing);
  }

  choose(version) {
    this.player.choose(version);
    get("trial").dataset.version = version;
    for (const button of get("versions").children) button.setAttribute("aria-pressed", String(button.dataset.version === version));
    for (const box of get("ratings").querySelectorAll(".rating")) box.classList.toggle("heard", box.dataset.version === version);
  }

  async toggle(event) {
    if (event) this.blur(event);
    if (this.player.playing) this.player.stop(); else await this.player.play();
  }

  blur(event) {  // after a mouse's click Space plays and pauses again
    if (event.detail) event.currentTarget.blur();
  }

  keys() {
    const letters = this.kind === "mushra" ? "R, A, B ..." : this.kind === "abx" ? "A, B, X" : "A, B";
    const rows = [["Space", "play, pause"], [letters, "switch, at the same moment"]];
    if (this.kind === "mushra") {
      rows.push(["↑, ↓", "rate what plays, by 1; with Shift by 10"], ["Home, End", "rate what plays 0 or 100"]);
    } else rows.push(...this.options().map(([, text, key]) => [key, text]));
    rows.push(["Enter", "next"]);
    const pieces = keys => keys.split(/(, | \.\.\.)/).filter(text => text).map(text => /^[ ,]/.test(text) ? text : element("kbd", {}, text));
    get("keys").replaceChildren(...rows.map(([key, text]) => element("tr", {}, element("td", {}, ...pieces(key)), element("td", {}, text))));
  }

  key(event) {
    if (!this.done || event.ctrlKey || event.metaKey || event.altKey) return;
    const letter = event.key.toUpperCase(), onButton = event.target.matches?.("button, summary"), version = this.player.version;
    const option = this.kind === "mushra" ? null : this.options().find(([, , key]) => key === event.key);
    const by = event.shiftKey ? 10 : 1, step = {ArrowUp: by, ArrowDown: -by, PageUp: 10, PageDown: -10, Home: -100, End: 100}[event.key];
    if (event.key === " " && !onButton) this.toggle();
    else if (event.key === "Enter" && !onButton && !event.repeat) this.done();
    else if (letter.length === 1 && this.versions.includes(letter)) this.choose(letter);
    else if (option) this.decide(option[0]);
    else if (step && this.kind === "mushra" && this.slots.includes(version)) this.rate(version, (this.answer[version] ?? 50) + step);
    else return;
    event.preventDefault();
  }

  tick(seconds) {
    if (!this.player.buffers.size || document.body.dataset.shown !== "trial") return;
    const {position, duration, version, playing} = this.player;
    if (playing) {
      const before = this.heard.get(version);
      this.heard.set(version, before + Math.min(seconds, 0.1));
      if (before < HEARD_S && this.heard.get(version) >= HEARD_S) this.check();
      if (position >= duration) {  // again, from the beginning
        this.player.stop();
        this.player.offset = 0;
        this.player.play();
      }
    }
    get("play").textContent = playing ? "Pause" : "Play";
    get("clock").textContent = `${position.toFixed(1)} of ${duration.toFixed(1)} s`;
    get("track").firstChild.style.width = `${100 * position / duration}%`;
  }
}

// --- The whole test ----------------------------------------------------------------------------------------------------------------------

function pressed(button) {
  return new Promise(done => {
    get(button).onclick = () => done();
    get(button).focus();
  });
}

async function agreement(server, about) {  // the listener's secret, once somebody has agreed
  get("task").textContent = TASKS[about.kind];
  get("length").textContent = `There are ${about.training} trials to get used to it, which do not count, and ${about.trials} that do.`;
  get("consent").textContent = about.consent;
  get("agree").onchange = () => {
    get("start").disabled = !get("agree").checked;
  };
  get("agree").onchange();
  show("welcome");
  await new Promise(done => {
    get("start").onclick = done;
  });
  get("start").disabled = true;
  const scripted = new URLSearchParams(location.search).has("scripted");
  return (await server.insist("/api/start", {agreed: true, ...(scripted ? {scripted} : {})})).listener;
}

async function pause(title, text, button) {
  get("pause-title").textContent = title;
  get("pause-text").textContent = text;
  get("go").textContent = button;
  get("link").textContent = get("link").href = location.href;
  get("progress").textContent = "";
  show("pause");
  await pressed("go");
}

function progress(next) {
  const testing = next.phase === "test";
  get("progress").textContent = next.phase === "end" ? "" : `${testing ? "Trial" : "Training"} ${next.number} of ${next.of}`;
  get("bar").hidden = !testing;
  if (!testing) return;
  get("bar").setAttribute("aria-valuemax", next.of);
  get("bar").setAttribute("aria-valuenow", next.number - 1);
  get("bar").firstChild.style.width = `${100 * (next.number - 1) / next.of}%`;
}

async function main() {
  let server = new Server(decodeURIComponent(location.hash.slice(1)));
  const about = await server.insist("/api/test");
  if (!about.known) {
    const secret = await agreement(server, about);
    history.replaceState(null, "", `${location.pathname}${location.search}#${secret}`);  // the listener's own link from here
    server = new Server(secret);
  }
  let next = await server.insist("/api/next");
  const question = new Question(about.kind, about.forced);
  window.test = {question, server};
  if (next.phase === "training" && next.number === 1) {
    await pause("Training", "These trials do not count. Try the keys, and choose a pleasant loudness.", "Begin");
  } else if (next.phase !== "end") {
    await pause("Welcome back", "You go on where you stopped.", "Go on");
  }
  let phase = next.phase;
  while (next.phase !== "end") {
    if (next.phase !== phase) await pause("The test begins", `From here on your answers count: ${next.of} trials.`, "Begin");
    phase = next.phase;
    progress(next);
    const versions = about.kind === "mushra" ? ["R", ...next.slots] : next.slots;
    const buffers = await patiently(() => server.audio(next.trial, versions), "The audio cannot be loaded; trying again.");
    const {answer, seconds} = await question.ask(next.slots, buffers);
    try {
      next = (await server.insist("/api/answer", {trial: next.trial, answer, seconds})).next;
    } catch (error) {
      if (error.status !== 409) throw error;
      next = await server.insist("/api/next");  // it was answered in another window: that answer stays
    }
  }
  progress(next);
  show("end");
}

window.addEventListener("hashchange", () => location.reload());  // somebody's link, pasted into this tab
main().catch(error => {
  show("");
  const said = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  failure(error instanceof Refused ? said : `Something went wrong: ${error.message}`);
});
