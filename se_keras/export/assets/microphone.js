"use strict";
// Audio worklet of the microphone: gives its blocks to the engine, plays what comes back, noisy or enhanced, in step.
const AHEAD = 4;  // blocks that wait before the first one sounds: they bridge a block that comes late

class Microphone extends AudioWorkletProcessor {
  static parameterDescriptors = [{name: "enhanced", defaultValue: 1, automationRate: "k-rate"}];

  constructor({processorOptions: {block}}) {
    super();
    this.size = block;
    this.block = new Float32Array(block);
    this.filled = this.place = 0;
    this.noisy = [new Float32Array(block)];  // enhanced speech is one block behind
    this.ready = [];
    this.playing = false;
    this.port.onmessage = ({data}) => this.ready.push([this.noisy.shift(), data]);
  }

  process([[input]], [[output]], {enhanced: [share]}) {
    if (input) this.take(input);
    this.playing ||= this.ready.length >= AHEAD;
    if (this.playing) this.give(output, share);
    return true;
  }

  take(samples) {
    this.block.set(samples, this.filled);
    this.filled += samples.length;
    if (this.filled < this.size) return;
    this.noisy.push(this.block);
    this.port.postMessage(this.block);
    this.block = new Float32Array(this.size);
    this.filled = 0;
  }

  give(output, share) {
    const [noisy, enhanced] = this.ready[0];
    for (let n = 0; n < output.length; n++) output[n] = share * enhanced[this.place + n] + (1 - share) * noisy[this.place + n];
    this.place += output.length;
    if (this.place < this.size) return;
    this.place = 0;
    this.ready.shift();
    this.playing = this.ready.length > 0;  // else it waits for AHEAD blocks again
    if (this.ready.length > 3 * AHEAD) this.ready.splice(0, this.ready.length - AHEAD);  // it was late: back to the present
  }
}

registerProcessor("microphone", Microphone);
