"use strict";
// The report page. Every name becomes text (textContent), never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const FLOOR_DB = -70;  // of a spectrogram, below the highest value of the utterance
const QUIET_DB = -40;  // utterances whose highest value is lower, silence above all, are drawn as against this
const number = new Map(data.ids.map((id, place) => [id, place]));
const get = id => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", {value, textContent: text})));
  select.closest("label").hidden = pairs.length < 2;
}

const distinct = values => [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
const shown = (value, metric) => value === null || value === undefined ? "" : value.toFixed(metric.digits);

// --- Systems ---------------------------------------------------------------------------------------------------------------------------

function systemsTable() {
  const columns = [
    {name: "System", value: row => data.systems.indexOf(row.system), cell: row => [row.system], better: 1},
    ...data.metrics.map(metric => ({
      name: metric.label, better: metric.higher ? -1 : 1, value: row => row.scores[metric.name][0],
      cell: row => {
        const [average, low, high] = row.scores[metric.name];
        const interval = low === null ? "" : `${shown(low, metric)} to ${shown(high, metric)}`;
        return [shown(average, metric), element("small", {textContent: interval})];
      }})),
    ...data.costs.map((name, place) => ({
      name, better: 1, value: row => row.cost[place]?.[1] ?? null, cell: row => [row.cost[place]?.[0] ?? ""]}))];
  let sorted = 0, direction = 1;

  function draw() {
    const rows = [...data.rows].sort((one, other) => {
      const [a, b] = [columns[sorted].value(one), columns[sorted].value(other)];
      return a === null || b === null ? (a === null) - (b === null) : direction * (a - b);
    });
    const head = columns.map((column, place) => element("th", {
      scope: "col", "aria-sort": place !== sorted ? "none" : direction > 0 ? "ascending" : "descending"},
    element("button", {type: "button", textContent: column.name, onclick: () => {
      direction = place === sorted ? -direction : column.better;
      sorted = place;
      draw();
      get("systems").querySelectorAll("th button")[place].focus();
    }})));
    get("systems").replaceChildren(
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...rows.map(row => element("tr", {}, ...columns.map(column => element("td", {}, ...column.cell(row)))))));
  }
  draw();
}

// --- Charts ----------------------------------------------------------------------------------------------------------------------------

const LAYOUT = {margin: {l: 60, r: 10, t: 30, b: 45}, font: {family: "system-ui, sans-serif"}, legend: {orientation: "h", y: 1.15},
  hovermode: "closest"};
const SETTINGS = {displaylogo: false, responsive: true};

function gains() {
  const metric = data.metrics.find(known => known.name === get("gain-metric").value);
  const other = "all" in data.gains[metric.name] ? ["gain-noise", "all", ""] : ["gain-noise", "noise_type", "Noise"];
  for (const [chart, condition, title] of [["gain-snr", "snr", "SNR"], other]) {
    const groups = Object.entries(data.gains[metric.name][condition] ?? {}), labels = groups.map(([label]) => label);
    get(chart).hidden = labels.length === 0;
    if (!labels.length) continue;
    const traces = data.systems.filter(system => system !== data.baseline).map(system => {
      const parts = groups.map(([, systems]) => systems[system]);
      return {type: "bar", name: system, x: labels, y: parts.map(([gain]) => gain), marker: {color: data.colours[system]},
        hovertemplate: "%{x}: %{y:.3f}", error_y: {symmetric: false, thickness: 1, width: 2,
          array: parts.map(([gain, , high]) => high - gain), arrayminus: parts.map(([gain, low]) => gain - low)}};
    });
    Plotly.react(chart, traces.map(plain), {...LAYOUT, barmode: "group", bargap: labels.length > 1 ? 0.2 : 0.7,
      xaxis: {title: {text: title}, type: "category"},
      yaxis: {title: {text: `${metric.label}, minus ${plainText(data.baseline)}`}}}, SETTINGS);
  }
}

// Plotly reads a little markup in names; what looks like it is shown as it is written.
const plainText = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const plain = trace => ({...trace, name: plainText(trace.name), ...(trace.text ? {text: trace.text.map(plainText)} : {}),
  ...(trace.type === "bar" ? {x: trace.x.map(plainText)} : {})});

function judgeChart() {
  const judge = data.judges[get("judge").value];
  const type = data.ids.length * data.systems.length > 20000 ? "scattergl" : "scatter";  // SVG where it is fast enough
  const traces = Object.entries(judge.systems).map(([system, [true_, predicted]]) => ({
    type, mode: "markers", name: system, x: true_, y: predicted, text: data.ids, customdata: data.ids,
    marker: {color: data.colours[system], size: 5, opacity: 0.5}, hovertemplate: "%{text}<br>true %{x:.2f}, predicted %{y:.2f}"}));
  const every = traces.flatMap(trace => [...trace.x, ...trace.y]).filter(value => value !== null);
  const limits = [every.reduce((a, b) => Math.min(a, b), Infinity), every.reduce((a, b) => Math.max(a, b), -Infinity)];
  const line = {type: "scatter", mode: "lines", x: limits, y: limits, line: {color: "#999", dash: "dash"}, showlegend: false, name: "",
    hoverinfo: "skip"};
  Plotly.react("judge-chart", [line, ...traces.map(plain)], {...LAYOUT, xaxis: {title: {text: `true ${judge.target}`}},
    yaxis: {title: {text: "predicted"}}}, SETTINGS);
  get("drawn").textContent = data.ids.length < data.scored ? `${data.ids.length} of ${data.scored} utterances are drawn. ` : "";
  const chart = get("judge-chart");
  chart.removeAllListeners("plotly_click");
  chart.on("plotly_click", event => browser?.open(event.points[0].customdata));
}

function historyChart() {
  const {update, predicted, true: true_, best, label} = data.history;
  get("history").hidden = false;
  Plotly.newPlot("history-chart", [
    {type: "scatter", mode: "lines+markers", name: "predicted", x: update, y: predicted, line: {color: "#d55e00"}},
    {type: "scatter", mode: "lines+markers", name: "true", x: update, y: true_, line: {color: "#0072b2"}}],
  {...LAYOUT, xaxis: {title: {text: "update"}}, yaxis: {title: {text: label}},
    shapes: [{type: "line", x0: best, x1: best, yref: "paper", y0: 0, y1: 1, line: {color: "#999", dash: "dot"}}]}, SETTINGS);
}

// --- Spectrograms ----------------------------------------------------------------------------------------------------------------------

const FFT = 512;
const WINDOW = Float64Array.from({length: FFT}, (_, n) => 0.5 - 0.5 * Math.cos(2 * Math.PI * n / FFT));

function fft(real, imag) {  // in place, radix 2
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let size = 2; size <= FFT; size *= 2) {
    const step = -2 * Math.PI / size;
    for (let start = 0; start < FFT; start += size) {
      for (let k = 0; k < size / 2; k++) {
        const [c, s] = [Math.cos(step * k), Math.sin(step * k)], [a, b] = [start + k, start + k + size / 2];
        const [re, im] = [real[b] * c - imag[b] * s, real[b] * s + imag[b] * c];
        [real[b], imag[b]] = [real[a] - re, imag[a] - im];
        real[a] += re;
        imag[a] += im;
      }
    }
  }
}

function decibels(samples) {  // {frames, values: bin by bin of each frame}
  const hop = Math.max(128, Math.ceil(samples.length / 600)), frames = Math.max(1, Math.floor((samples.length - FFT) / hop) + 1);
  const values = new Float32Array(frames * FFT / 2);
  for (let frame = 0; frame < frames; frame++) {
    const real = Float64Array.from(WINDOW, (weight, n) => weight * (samples[frame * hop + n] ?? 0)), imag = new Float64Array(FFT);
    fft(real, imag);
    for (let bin = 0; bin < FFT / 2; bin++) values[frame * FFT / 2 + bin] = 10 * Math.log10(real[bin] ** 2 + imag[bin] ** 2 + 1e-12);
  }
  return {frames, values};
}

const COLOURS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

function colour(level) {  // 0 to 1 -> red, green, blue
  const place = Math.min(Math.max(level, 0), 1) * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((value, channel) => value + (place - low) * (COLOURS[low + 1][channel] - value));
}

function paint(canvas, {frames, values}, highest) {
  canvas.width = frames;
  canvas.height = FFT / 2;
  const context = canvas.getContext("2d"), image = context.createImageData(frames, FFT / 2);
  for (let frame = 0; frame < frames; frame++) {
    for (let bin = 0; bin < FFT / 2; bin++) {
      const pixel = 4 * ((FFT / 2 - 1 - bin) * frames + frame);
      image.data.set([...colour(1 - (values[frame * FFT / 2 + bin] - highest) / FLOOR_DB), 255], pixel);
    }
  }
  context.putImageData(image, 0, 0);
}

// --- Browser of utterances --------------------------------------------------------------------------------------------------------------

const bytes = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)).buffer;

class Browser {
  constructor(items) {
    this.items = new Map(items.map(item => [item.id, item]));
    this.player = new Player();
    this.current = null;
    this.goOn = false;
    this.visible = [];
    const of = list => distinct([...this.items.keys()].map(id => list[number.get(id)])).filter(value => value !== "");
    for (const [id, list] of [["filter-snr", data.snr], ["filter-noise", data.noise], ["filter-speaker", data.speaker]]) {
      const values = of(list);
      options(get(id), values.length > 1 ? [["", "all"], ...values.map(value => [value, value])] : [["", "all"]]);
    }
    options(get("sort-by"), [["", "what chose them"], ...data.metrics.map(metric => [`gain ${metric.name}`, `gain in ${metric.label} over ${data.baseline}`]),
      ...Object.keys(data.judges).map(judge => [`gap ${judge}`, `overrated by ${judge}`])]);
    const systems = data.systems.filter(system => system !== "noisy");
    options(get("sort-system"), systems.map(system => [system, system]));
    if (systems.length) get("sort-system").value = systems.at(-1);
    for (const id of ["filter-snr", "filter-noise", "filter-speaker", "sort-by", "sort-system"]) get(id).onchange = () => this.list();
    get("play").onclick = () => this.toggle();
    document.addEventListener("keydown", event => this.key(event));
    get("browser").classList.toggle("single", this.items.size === 1);
    this.list();
    if (this.visible.length) this.open(this.visible[0]);
    const tick = () => {
      this.tick();
      requestAnimationFrame(tick);
    };
    tick();
  }

  worth(id) {  // what the list is sorted by: the larger, the sooner
    const [kind, ...rest] = get("sort-by").value.split(" "), name = rest.join(" ");
    const place = number.get(id), system = get("sort-system").value;
    if (kind === "gap") {
      const {higher, systems: {[system]: [true_, predicted]}} = data.judges[name];
      return predicted[place] === null || true_[place] === null ? null : (higher ? 1 : -1) * (predicted[place] - true_[place]);
    }
    const metric = data.metrics.find(known => known.name === name), value = data.scores[system][name][place];
    const before = data.scores[data.baseline][name][place];
    return value === null || before === null ? null : (metric.higher ? 1 : -1) * (value - before);
  }

  list() {
    const wanted = [["filter-snr", data.snr], ["filter-noise", data.noise], ["filter-speaker", data.speaker]];
    let ids = [...this.items.keys()].filter(id => wanted.every(([select, values]) => !get(select).value ||
      values[number.get(id)] === get(select).value));
    if (get("sort-by").value) {
      const worth = new Map(ids.map(id => [id, this.worth(id)]));
      ids = ids.sort((one, other) => (worth.get(other) ?? -Infinity) - (worth.get(one) ?? -Infinity));
      this.values = worth;
    } else {
      this.values = null;
    }
    this.visible = ids;
    get("found").textContent = data.scored ? `${ids.length} of the ${this.items.size} utterances with audio; ${data.scored} were scored` : "";
    get("utterances").replaceChildren(...ids.map(id => {
      const place = number.get(id), value = this.values?.get(id);
      const said = [data.snr[place], data.noise[place], value == null ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`];
      const text = said.filter(text => text).join(" · ");
      return element("li", {onclick: () => this.open(id), "data-id": id, "aria-current": String(id === this.current)},
        ...(text ? [text, element("small", {textContent: id})] : [id]));
    }));
  }

  async open(id) {
    const item = this.items.get(id);
    if (!item) {
      get("failure").textContent = `${id}: this page holds no audio of it; python enhance.py makes it`;
      get("failure").hidden = false;
      return;
    }
    this.goOn ||= this.player.playing;  // a new utterance plays on where the one before it played
    this.player.empty();
    this.current = id;
    get("failure").hidden = true;
    for (const line of get("utterances").children) line.setAttribute("aria-current", String(line.dataset.id === id));
    get("playing").textContent = id;
    get("why").textContent = item.why.length ? `Chosen as ${item.why.join(", ")}.` : item.note ?? "";
    get("versions").replaceChildren();
    get("spectrograms").replaceChildren();
    this.scores(item);
    let buffers;
    try {
      buffers = await Player.decode(Object.fromEntries(Object.entries(item.audio).map(([name, text]) => [name, bytes(text)])));
    } catch (error) {
      if (this.current !== id) return;
      get("failure").textContent = `This browser does not decode Ogg Opus (${error.message}); Chromium, Firefox and Safari 18.4 do.`;
      get("failure").hidden = false;
      return;
    }
    if (this.current !== id) return;  // another one was opened meanwhile
    this.player.buffers = buffers;
    const names = Object.keys(item.audio);
    if (!names.includes(this.player.version)) this.player.version = names.includes("noisy") ? "noisy" : names[0];
    get("versions").replaceChildren(...names.map((name, place) => element("button", {
      type: "button", textContent: `${place + 1} ${name}`, "data-version": name, style: `--colour: ${data.colours[name] ?? "#000"}`,
      onclick: event => {
        this.choose(name);
        if (event.detail) event.currentTarget.blur();  // after a mouse's click Space plays and pauses again
      }})));
    this.spectrograms(names);
    this.choose(this.player.version);
    get("player").dataset.loaded = id;
    if (this.goOn) {
      this.goOn = false;
      await this.player.play();
    }
  }

  scores(item) {
    const place = number.get(item.id), names = Object.keys(item.audio).filter(name => name in data.scores);
    const judges = Object.entries(data.judges);
    get("scores").hidden = !names.length;  // of a recording that nothing scored there are none
    const head = ["", ...data.metrics.map(metric => metric.label), ...judges.map(([judge]) => `predicted by ${judge}`)];
    get("scores").replaceChildren(
      element("thead", {}, element("tr", {}, ...head.map(textContent => element("th", {textContent})))),
      element("tbody", {}, ...names.map(name => element("tr", {}, element("td", {textContent: name}),
        ...data.metrics.map(metric => element("td", {textContent: shown(data.scores[name][metric.name][place], metric)})),
        ...judges.map(([, judge]) => element("td", {textContent: judge.systems[name]?.[1][place]?.toFixed(3) ?? ""}))))));
  }

  spectrograms(names) {
    const levels = names.map(name => decibels(this.player.buffers.get(name).getChannelData(0)));
    const highest = levels.reduce((most, {values}) => values.reduce((a, b) => Math.max(a, b), most), QUIET_DB);
    get("spectrograms").replaceChildren(...names.map((name, place) => {
      const canvas = element("canvas", {});
      paint(canvas, levels[place], highest);
      const box = element("div", {className: "spectrogram", "data-version": name}, canvas, element("span", {textContent: name}),
        element("i"));
      box.onclick = event => {
        this.choose(name);
        this.player.seek(this.player.duration * event.offsetX / box.clientWidth);
      };
      return box;
    }));
  }

  choose(version) {
    this.player.choose(version);
    get("player").dataset.version = version;
    for (const button of get("versions").children) button.setAttribute("aria-pressed", String(button.dataset.version === version));
    for (const box of get("spectrograms").children) box.classList.toggle("heard", box.dataset.version === version);
  }

  async toggle() {
    if (!this.player.buffers.size) this.goOn = !this.goOn;  // once it is there
    else if (this.player.playing) this.player.stop();
    else await this.player.play();
  }

  key(event) {
    if (event.target.matches?.("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const versions = get("versions").children, place = this.visible.indexOf(this.current);
    if (event.key === " " && !event.target.matches?.("button")) this.toggle();
    else if (/^[1-9]$/.test(event.key) && versions[event.key - 1]) this.choose(versions[event.key - 1].dataset.version);
    else if (event.key === "ArrowDown" && place + 1 < this.visible.length) this.open(this.visible[place + 1]);
    else if (event.key === "ArrowUp" && place > 0) this.open(this.visible[place - 1]);
    else return;
    event.preventDefault();
  }

  tick() {
    if (!this.player.buffers.size) return;
    const {position, duration} = this.player;
    if (this.player.playing && position >= duration) {
      this.player.stop();
      this.player.offset = 0;
    }
    get("play").textContent = this.player.playing ? "Pause" : "Play";
    get("clock").textContent = `${position.toFixed(2)} of ${duration.toFixed(2)} s`;
    for (const box of get("spectrograms").children) box.lastChild.style.left = `${100 * position / duration}%`;
  }
}

// --- The page --------------------------------------------------------------------------------------------------------------------------

document.title = get("title").textContent = data.title;
get("note").textContent = data.note ?? "";
get("level").textContent = data.level;
if (data.metrics.length) {
  get("averages").hidden = false;
  get("about").textContent = `${data.about}${data.aboutCost}`;
  systemsTable();
}
if (data.metrics.length && data.systems.length > 1) {
  get("gains").hidden = false;
  options(get("gain-metric"), data.metrics.map(metric => [metric.name, metric.label]));
  get("gain-metric").onchange = gains;
  gains();
}
let browser = null;
if (data.heard.length) {
  get("listen").hidden = false;
  browser = new Browser(data.heard);
}
window.report = {browser, data};
if (data.history) historyChart();
if (data.listening) {
  get("listening-test").hidden = false;
  get("listening-about").textContent = data.listening.about;
  get("listening-table").replaceChildren(
    element("thead", {}, element("tr", {}, ...data.listening.headers.map(textContent => element("th", {scope: "col", textContent})))),
    element("tbody", {}, ...data.listening.rows.map(row => element("tr", {}, ...row.map(textContent => element("td", {textContent}))))));
}
if (Object.keys(data.judges).length) {
  get("judges").hidden = false;
  options(get("judge"), Object.keys(data.judges).map(judge => [judge, judge]));
  get("judge").onchange = judgeChart;
  Plotly.newPlot("judge-chart", []);
  judgeChart();
}
