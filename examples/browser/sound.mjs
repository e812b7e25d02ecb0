// An organ of triangle waves: keys that sound on are held, others end.
const LOUDNESS = 0.12;
const FADE = 0.06; // seconds in which a key starts and ends

export class Organ {
  constructor(lowest) {
    this.lowest = lowest;
    this.sounding = new Map(); // key -> its nodes
  }

  play(keys) {
    this.context ??= new AudioContext(); // a browser allows sound only after a click
    this.context.resume();
    const now = this.context.currentTime;
    for (const [key, { wave, gain }] of this.sounding) {
      if (keys.includes(key)) continue;
      gain.gain.setTargetAtTime(0, now, FADE);
      wave.stop(now + 10 * FADE);
      this.sounding.delete(key);
    }
    for (const key of keys) {
      if (!this.sounding.has(key)) this.sounding.set(key, this.begin(key, now));
    }
  }

  begin(key, now) {
    const wave = new OscillatorNode(this.context, {
      type: "triangle",
      frequency: 440 * 2 ** ((key + this.lowest - 69) / 12),
    });
    const gain = new GainNode(this.context, { gain: 0 });
    gain.gain.setTargetAtTime(LOUDNESS, now, FADE);
    wave.connect(gain).connect(this.context.destination);
    wave.start(now);
    return { wave, gain };
  }
}
