// The page of an exported enhancer. Every name becomes text (textContent), never markup.
const LONGEST_S = 600;  // the wave form holds the whole recording in memory several times
const FLOOR_DB = -70;  // of a spectrogram, below its highest value
const VERSIONS = {noisy: "#999999", enhanced: "#0072b2"};
const get = id => document.getElementById(id);
const card = JSON.parse(get("card").textContent);
const player = new Player();
player.version = "enhanced";
let live = null;  // {context, stream, node} while the microphone is open

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// --- The engine ------------------------------------------------------------------------------------------------------------------------

let worker;

function ask(task, given = {}, transferred = []) {  // one thing at a time: `busy` locks the page
  return new Promise((done, failed) => {
    worker.onmessage = ({data}) => {
      if ("progress" in data) get("progress").value = data.progress;
      else if ("live" in data) live && say(`Real-time factor ${data.live.toFixed(3)}. Wear headphones: a loudspeaker would feed back.`);
      else if ("failed" in data) failed(new Error(data.failed));
      else done(data);
    };
    worker.onerror = event => failed(new Error(event.message));
    worker.postMessage({task, ...given}, transferred);
  });
}

async function unpacked(id) {  // base64 of gzip -> Uint8Array
  const text = atob(get(id).textContent), packed = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) packed[place] = text.charCodeAt(place);
  get(id).remove();
  return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

const say = text => get("status").textContent = text;

function fail(text) {
  get("failure").textContent = text;
  get("failure").hidden = false;
  say("");
}

function busy(is) {
  get("progress").hidden = !is;
  get("progress").removeAttribute("value");  // until a share is known
  for (const id of ["file", "microphone"]) get(id).disabled = is;
  if (is) get("failure").hidden = true;
}

// --- Recordings ------------------------------------------------------------------------------------------------------------------------

async function openFile(file) {
  if (get("file").disabled) return;  // still at work
  busy(true);
  say(`${file.name} is being enhanced …`);
  delete get("player").dataset.loaded;
  try {
    const samples = await decoded(file);
    show(file.name, await ask("enhance", {samples}, [samples.buffer]));
  } catch (error) {
    fail(`${file.name}: ${error.message}`);
  }
  busy(false);
}

async function decoded(file) {  // float32 samples, mono, at 16 kHz
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer()).catch(() => {
    throw new Error("this browser finds no audio in it that it can decode; convert it to WAV");
  });
  if (buffer.duration > LONGEST_S) {
    throw new Error(`lasts ${(buffer.duration / 60).toFixed(1)} minutes, and this page takes ${LONGEST_S / 60}; cut it, or use enhance.py`);
  }
  const samples = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, place) => samples[place] += value / buffer.numberOfChannels);
  }
  return samples;
}

function show(name, {noisy, enhanced, seconds}) {
  const duration = noisy.length / RATE;
  player.empty();
  for (const [version, samples] of Object.entries({noisy, enhanced})) {
    const buffer = new AudioBuffer({length: samples.length, sampleRate: RATE});
    buffer.copyToChannel(samples, 0);
    player.buffers.set(version, buffer);
  }
  say(`${duration.toFixed(2)} s enhanced in ${seconds.toFixed(2)} s: real-time factor ${(seconds / duration).toFixed(3)}.`);
  get("playing").textContent = name;
  URL.revokeObjectURL(get("download").href);
  Object.assign(get("download"), {
    href: URL.createObjectURL(wav(enhanced)), download: `${name.replace(/\.\w+$/, "")}-enhanced.wav`, hidden: false});
  spectrograms({noisy, enhanced});
  get("keys").textContent = "Both play in step: 1 and 2 switch, Space plays and pauses; a click in a spectrogram goes to that moment.";
  get("play").hidden = get("player").hidden = false;
  get("player").dataset.loaded = name;
  choose(player.version);
}

function wav(samples) {  // 16-bit PCM, mono
  const size = 2 * samples.length, view = new DataView(new ArrayBuffer(44 + size));
  const text = (place, letters) => [...letters].forEach((letter, n) => view.setUint8(place + n, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);  // bytes of the format
  view.setUint16(20, 1, true);  // PCM
  view.setUint16(22, 1, true);  // one channel
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);  // bytes a second
  view.setUint16(32, 2, true);  // bytes of a sample
  view.setUint16(34, 16, true);  // its bits
  text(36, "data");
  view.setUint32(40, size, true);
  samples.forEach((value, n) => view.setInt16(44 + 2 * n, Math.round(32767 * Math.min(Math.max(value, -1), 1)), true));
  return new Blob([view], {type: "audio/wav"});
}

// --- The microphone, of a step ---------------------------------------------------------------------------------------------------------

async function microphone() {
  busy(true);
  player.stop();
  const context = new AudioContext({sampleRate: RATE});
  let stream;
  try {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(get("worklet").textContent)}`);  // a blob: fails on file:
    const plain = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};  // of the browser, which would enhance first
    stream = await navigator.mediaDevices.getUserMedia({audio: {...plain, channelCount: 1}});
    const node = new AudioWorkletNode(context, "microphone", {
      channelCount: 1, channelCountMode: "explicit", outputChannelCount: [1], processorOptions: {block: card.block}});
    await ask("listen", {port: node.port}, [node.port]);
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);
    await context.resume();
    live = {context, stream, node};
  } catch (error) {
    stream?.getTracks().forEach(track => track.stop());
    await context.close();
    busy(false);
    fail(`The microphone cannot be used: ${error.message}${error.name === "NotSupportedError" ? " Chromium can." : ""}`);
    return;
  }
  player.empty();
  get("progress").hidden = true;
  get("microphone").disabled = false;
  get("microphone").textContent = "Stop";
  get("playing").textContent = "Microphone";
  get("keys").textContent = "1 and 2 switch what sounds. Stop keeps what was heard, to play and to download.";
  get("spectrograms").replaceChildren();
  get("play").hidden = get("download").hidden = true;
  get("player").hidden = false;
  get("player").dataset.loaded = "live";
  choose("enhanced");
}

async function stopMicrophone() {
  const {context, stream} = live;
  live = null;
  stream.getTracks().forEach(track => track.stop());
  await context.close();
  get("microphone").textContent = "Microphone";
  try {
    const heard = await ask("stop");
    if (!heard.noisy.length) throw new Error("nothing came from it");
    show("Microphone", heard);
  } catch (error) {
    get("player").hidden = true;
    fail(`The microphone: ${error.message}`);
  }
  busy(false);
}

// --- Spectrograms ----------------------------------------------------------------------------------------------------------------------

const BINS = 128, TURN = Float32Array.from({length: 2 * BINS}, (_, n) => Math.cos(Math.PI * n / BINS));
const COLOURS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

function decibels(samples) {  // `BINS` of each of up to 600 frames of 16 ms, by the sums of their definition
  const frames = Math.max(1, Math.min(600, Math.floor(samples.length / BINS) - 1)), hop = Math.max(0, samples.length - 2 * BINS) / frames;
  const windowed = new Float32Array(2 * BINS), values = new Float32Array(frames * BINS);
  for (let frame = 0; frame < frames; frame++) {
    const start = Math.floor(frame * hop);
    for (let n = 0; n < 2 * BINS; n++) windowed[n] = (0.5 - 0.5 * TURN[n]) * (samples[start + n] ?? 0);
    for (let bin = 0; bin < BINS; bin++) {
      let real = 0, imag = 0;
      for (let n = 0; n < 2 * BINS; n++) {
        real += windowed[n] * TURN[bin * n % (2 * BINS)];
        imag += windowed[n] * TURN[(bin * n + BINS / 2) % (2 * BINS)];  // a quarter turn on
      }
      values[frame * BINS + bin] = 10 * Math.log10(real ** 2 + imag ** 2 + 1e-12);
    }
  }
  return values;
}

function spectrograms(versions) {
  const levels = Object.values(versions).map(decibels);
  const highest = levels.reduce((most, values) => values.reduce((a, b) => Math.max(a, b), most), -40);  // silence stays dark
  get("spectrograms").replaceChildren(...Object.keys(versions).map((name, place) => {
    const width = levels[place].length / BINS, canvas = element("canvas", {width, height: BINS}), context = canvas.getContext("2d");
    const image = context.createImageData(width, BINS);
    levels[place].forEach((value, n) => {
      const shade = 7 * Math.max(0, 1 - (value - highest) / FLOOR_DB), low = Math.min(Math.floor(shade), 6);
      const colour = COLOURS[low].map((from, channel) => from + (shade - low) * (COLOURS[low + 1][channel] - from));
      image.data.set([...colour, 255], 4 * ((BINS - 1 - n % BINS) * width + Math.floor(n / BINS)));
    });
    context.putImageData(image, 0, 0);
    const box = element("div", {className: "spectrogram", "data-version": name}, canvas, element("span", {textContent: name}), element("i"));
    box.onclick = event => {
      choose(name);
      player.seek(player.duration * event.offsetX / box.clientWidth);
    };
    return box;
  }));
}

// --- The player ------------------------------------------------------------------------------------------------------------------------

function choose(version) {
  player.choose(version);
  live?.node.parameters.get("enhanced").setTargetAtTime(+(version === "enhanced"), live.context.currentTime, FADE_S / 3);
  get("player").dataset.version = version;
  for (const button of get("versions").children) button.setAttribute("aria-pressed", String(button.dataset.version === version));
  for (const box of get("spectrograms").children) box.classList.toggle("heard", box.dataset.version === version);
}

async function toggle() {
  if (player.playing) player.stop(); else if (player.buffers.size) await player.play();
}

function tick() {
  if (live) {
    get("clock").textContent = `${live.context.currentTime.toFixed(1)} s`;
    if (live.context.currentTime > LONGEST_S) stopMicrophone();
  } else if (player.buffers.size) {
    const {position, duration} = player;
    if (player.playing && position >= duration) {
      player.stop();
      player.offset = 0;
    }
    get("play").textContent = player.playing ? "Pause" : "Play";
    get("clock").textContent = `${position.toFixed(2)} of ${duration.toFixed(2)} s`;
    for (const box of get("spectrograms").children) box.lastChild.style.left = `${100 * position / duration}%`;
  }
  requestAnimationFrame(tick);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || get("player").hidden) return;
  const version = Object.keys(VERSIONS)[event.key - 1];
  if (version) choose(version);
  else if (event.key === " " && !event.target.matches?.("button, input, a")) toggle();
  else return;
  event.preventDefault();
});

// --- The page --------------------------------------------------------------------------------------------------------------------------

document.title = get("title").textContent = `Enhance by ${card.name}`;
const latency = card.latency_s ? `, ${Math.round(1000 * card.latency_s)} ms late` : "";
get("about").textContent = card.form === "step" ? `Block by block, as live${latency}; 16 kHz, mono.` : "Whole recordings; 16 kHz, mono.";
get("made").textContent = `Model ${card.file}${card.licence ? `: ${card.licence}` : ""}\nONNX Runtime Web ${card.runtime}: MIT, © Microsoft Corporation`;
get("versions").append(...Object.entries(VERSIONS).map(([name, colour], place) => element("button", {
  type: "button", textContent: `${place + 1} ${name}`, "data-version": name, style: `--colour: ${colour}`,
  onclick: event => {
    choose(name);
    if (event.detail) event.currentTarget.blur();  // after a mouse's click Space plays and pauses again
  }})));
get("play").onclick = event => {
  toggle();
  if (event.detail) event.currentTarget.blur();
};
get("file").onchange = event => {
  const [file] = event.target.files;
  event.target.value = "";  // the same file may be chosen again
  event.target.blur();
  if (file) openFile(file);
};
get("microphone").onclick = () => live ? stopMicrophone() : microphone();
get("microphone").hidden = card.form !== "step" || card.block % 128 !== 0 || card.delay !== card.block;  // what the worklet is written for
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();  // the browser would leave the page for the file
    get("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  });
}
tick();

(async () => {
  try {
    worker = new Worker(URL.createObjectURL(new Blob([get("engine").textContent], {type: "text/javascript"})));
    const [runtime, wasm, model] = await Promise.all(["runtime", "wasm", "model"].map(unpacked));
    await ask("load", {runtime, wasm, model, about: card}, [wasm.buffer, model.buffer]);
    busy(false);
    say("Ready.");
    document.body.dataset.ready = "";
  } catch (error) {
    get("progress").hidden = true;
    fail(`This browser cannot run the model (${error.message}); Chromium, Firefox and Safari 16.4 and later have what it takes.`);
  }
})();
