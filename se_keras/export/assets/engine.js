"use strict";
// An exported enhancer in ONNX Runtime Web. It runs in a worker: the page stays awake meanwhile.
let ort, session;
let card;  // FILE.onnx.json: what the model takes and gives

async function load({runtime, wasm, model, about}) {
  ort = await import(URL.createObjectURL(new Blob([runtime], {type: "text/javascript"})));
  ort.env.wasm.numThreads = 1;  // more of them need a page that a server isolates
  ort.env.wasm.wasmBinary = wasm;  // or it would be fetched
  session = await ort.InferenceSession.create(model, {executionProviders: ["wasm"], logSeverityLevel: 3});
  card = about;
}

// --- Recordings: Float32Array of samples at 16 kHz -> enhanced, of the same length -----------------------------------------------------

const tensor = (values, shape) => new ort.Tensor("float32", values, shape);

async function enhanceWhole(samples) {  // the wave form
  return (await session.run({noisy: tensor(samples, [1, samples.length])})).enhanced.data;
}

async function enhanceInBlocks(samples, progress) {  // the step form
  const {block, delay} = card, states = firstStates(), blocks = Math.ceil((samples.length + delay) / block);
  const noisy = new Float32Array(blocks * block), enhanced = new Float32Array(blocks * block);
  noisy.set(samples);  // the zeros behind them bring the last samples out
  for (let place = 0; place < noisy.length; place += block) {
    enhanced.set(await enhanceBlock(noisy.slice(place, place + block), states), place);
    progress(place / noisy.length);
  }
  return enhanced.slice(delay, delay + samples.length);
}

async function enhanceBlock(block, states) {  // gives what lies card.delay samples back, and moves the states on
  const outputs = await session.run({block: tensor(block, [1, block.length]), ...states});
  for (const name of Object.keys(states)) states[name] = outputs[`next_${name}`];
  return outputs.enhanced.data;
}

function firstStates() {
  const states = Object.entries(card.inputs).filter(([name]) => name !== "block");
  return Object.fromEntries(states.map(([name, shape]) => [name, tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape)]));
}

async function enhance({samples}) {
  const began = performance.now();
  let told = 0;
  const progress = share => {
    if (share - told < 0.01) return;
    told = share;
    postMessage({progress: share});
  };
  const enhanced = card.form === "step" ? await enhanceInBlocks(samples, progress) : await enhanceWhole(samples);
  return {noisy: samples, enhanced, seconds: (performance.now() - began) / 1000};
}

// --- The microphone: blocks come from its worklet and go back to it --------------------------------------------------------------------

let live;

function listen({port}) {
  live = {port, states: firstStates(), noisy: [], enhanced: [], seconds: 0, work: Promise.resolve()};
  port.onmessage = ({data}) => {  // one after the other: each needs the states that the one before it leaves
    live.work = live.work.then(() => liveBlock(data));
  };
}

async function liveBlock(block) {
  const began = performance.now(), enhanced = await enhanceBlock(block, live.states);
  live.seconds += (performance.now() - began) / 1000;
  live.noisy.push(block);
  live.enhanced.push(enhanced);
  live.port.postMessage(enhanced);
  if (live.noisy.length % 16 === 0) postMessage({live: live.seconds / (live.noisy.length * card.block / card.sample_rate)});
}

async function stop() {
  live.port.onmessage = null;
  await live.work;
  const noisy = joined(live.noisy);
  for (let behind = 0; behind < card.delay; behind += card.block) await liveBlock(new Float32Array(card.block));
  return {noisy, enhanced: joined(live.enhanced).slice(card.delay, card.delay + noisy.length), seconds: live.seconds};
}

function joined(blocks) {
  const all = new Float32Array(blocks.length * card.block);
  blocks.forEach((block, place) => all.set(block, place * card.block));
  return all;
}

// --- What the page asks ----------------------------------------------------------------------------------------------------------------

onmessage = async ({data: {task, ...given}}) => {
  try {
    postMessage({done: true, ...await {load, enhance, listen, stop}[task](given)});
  } catch (error) {
    postMessage({failed: error.message});
  }
};
