// Writes and plays a chorale. model.mjs runs the file, sound.mjs makes the sound.
import { loadModel } from "./model.mjs";
import { Organ } from "./sound.mjs";

const VOICES = 4; // keys that sound together
const SHOWN = 64; // quarters on the piano roll
const element = (id) => document.getElementById(id);
const value = (id) => Number(element(id).value);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// Draws a key for each voice, a more probable one more often; at boldness 0 the most probable ones.
// Two keys next to each other do not sound together.
function draw(probabilities, boldness) {
  const weights = Array.from(probabilities, (p) => p ** (1 / Math.max(0.02, boldness)));
  const keys = [];
  while (keys.length < VOICES) {
    let left = Math.random() * weights.reduce((a, b) => a + b, 0);
    const key = weights.findIndex((weight) => (left -= weight) < 0);
    if (key < 0) break;
    keys.push(key);
    for (const near of [key - 1, key, key + 1]) if (near in weights) weights[near] = 0;
  }
  return keys.sort((a, b) => a - b);
}

function show(frames, facts) {
  const canvas = element("roll");
  const pen = canvas.getContext("2d");
  const [width, height] = [canvas.width / SHOWN, canvas.height / facts.keys];
  const seen = frames.slice(-SHOWN);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = colour("--line");
  for (let key = 0; key < facts.keys; key++) {
    if ((key + facts.lowest) % 12 === 0) { // each C
      pen.fillRect(0, canvas.height - (key + 1) * height, canvas.width, height);
    }
  }
  pen.fillStyle = colour("--key");
  seen.forEach((keys, step) => keys.forEach((key) => {
    const gap = seen[step + 1]?.includes(key) ? 0 : 1; // a key that sounds on is one bar
    pen.fillRect(step * width, canvas.height - (key + 1) * height, width - gap, height - 1);
  }));
}

function describe(facts) {
  const kilobytes = (facts.bytes / 1000).toFixed(0);
  return `${facts.units} units, ${facts.weights.toLocaleString("en")} weights, ` +
    `${kilobytes} kB. Cross-entropy on chorales that it has not seen: ` +
    `${facts.loss.toFixed(2)} nats a quarter.`;
}

async function start() {
  const model = await loadModel();
  const { facts } = model;
  const organ = new Organ(facts.lowest);
  let frames, timer, slowest, playing = false;

  function begin() {
    model.reset();
    slowest = 0;
    frames = [facts.start.map((note) => note - facts.lowest)];
    show(frames, facts);
  }

  async function step() {
    const before = performance.now();
    const probabilities = await model.step(frames.at(-1));
    if (!playing) return; // stopped in the meantime
    slowest = Math.max(slowest, performance.now() - before);
    frames.push(draw(probabilities, value("boldness") / 100));
    organ.play(frames.at(-1));
    show(frames, facts);
    element("status").textContent =
      `${frames.length} quarters. The slowest step took ${slowest.toFixed(1)} ms.`;
    timer = setTimeout(step, 60000 / value("tempo"));
  }

  function stop() {
    clearTimeout(timer);
    playing = false;
    organ.play([]);
    element("play").textContent = "Play";
  }

  element("play").onclick = () => {
    if (playing) return stop();
    playing = true;
    element("play").textContent = "Stop";
    organ.play(frames.at(-1));
    timer = setTimeout(step, 60000 / value("tempo"));
  };
  element("again").onclick = () => { stop(); begin(); };
  element("facts").textContent = describe(facts);
  element("status").textContent = "Ready.";
  element("play").disabled = element("again").disabled = false;
  begin();
}

start().catch((error) => {
  element("status").textContent = `The model cannot be loaded: ${error.message ?? error}`;
});
