"use strict";
// Versions of one utterance that play in step: a switch keeps the moment. Of the report's page, and of the listening test's.
const RATE = 16000;  // Hz, of all audio
const FADE_S = 0.01;  // between two versions: no click

class Player {
  constructor() {
    this.context = null;  // made at the first click: before it, a browser lets nothing sound
    this.buffers = new Map();
    this.sources = new Map();
    this.version = null;
    this.offset = 0;
    this.playing = false;
  }

  static async decode(audio) {  // {name: ArrayBuffer of an audio file}
    const decoder = new OfflineAudioContext(1, 1, RATE);
    const decoded = await Promise.all(Object.entries(audio).map(async ([name, file]) => [name, await decoder.decodeAudioData(file)]));
    return new Map(decoded);
  }

  get duration() {
    return Math.min(...[...this.buffers.values()].map(buffer => buffer.duration));
  }

  get position() {
    return this.playing ? Math.min(Math.max(this.context.currentTime - this.startedAt, 0), this.duration) : this.offset;
  }

  async play() {
    this.context ??= new AudioContext({sampleRate: RATE});
    this.master ??= this.context.createGain();
    this.master.connect(this.context.destination);
    await this.context.resume();
    if (this.playing || !this.buffers.size) return;  // another click, or another utterance, came meanwhile
    if (this.offset >= this.duration - 0.02) this.offset = 0;
    const start = this.context.currentTime + 0.03;
    this.startedAt = start - this.offset;
    for (const [name, buffer] of this.buffers) {  // all at once: a switch is a change of gains
      const source = new AudioBufferSourceNode(this.context, {buffer}), gain = new GainNode(this.context, {gain: +(name === this.version)});
      source.connect(gain).connect(this.master);
      source.start(start, this.offset);
      this.sources.set(name, {source, gain});
    }
    this.playing = true;
  }

  empty() {
    this.stop();
    this.offset = 0;
    this.buffers = new Map();
  }

  stop() {
    this.offset = this.position;
    this.playing = false;
    for (const {source, gain} of this.sources.values()) {
      source.stop();
      gain.disconnect();
    }
    this.sources.clear();
  }

  choose(version) {
    this.version = version;
    for (const [name, {gain}] of this.sources) {
      gain.gain.setTargetAtTime(+(name === version), this.context.currentTime, FADE_S / 3);
    }
  }

  async seek(seconds) {
    const playing = this.playing;
    this.stop();
    this.offset = Math.min(Math.max(seconds, 0), this.duration);
    if (playing) await this.play();
  }
}
