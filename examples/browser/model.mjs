// Runs chorale.onnx in onnxruntime-web, and keeps the states from step to step.
import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1;

const zeros = (shape) =>
  new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

class Model {
  constructor(session, facts) {
    [this.session, this.facts] = [session, facts];
    this.reset();
  }

  // Begins a new chorale.
  reset() {
    this.states = Object.entries(this.facts.states).map(([name, shape]) => [name, zeros(shape)]);
  }

  // Takes the keys that sound now; returns the probability of each key to sound next.
  async step(keys) {
    const x = zeros([1, 1, this.facts.keys]);
    keys.forEach((key) => { x.data[key] = 1; });
    const [input] = this.session.inputNames;
    const [output] = this.session.outputNames;
    const results = await this.session.run({ [input]: x, ...Object.fromEntries(this.states) });
    this.states = this.states.map(([name]) => [name, results[`${name}_out`]]);
    return results[output].data;
  }
}

export async function loadModel() {
  const facts = await (await fetch("facts.json")).json();
  return new Model(await ort.InferenceSession.create("chorale.onnx"), facts);
}
