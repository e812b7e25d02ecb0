// Answers requests to run ONNX files in onnxruntime-web, in Node.js and in a browser.
//
//   {"load": file}                          its bytes in base64; the answer is {"session": number}
//   {"session": number, "run": {name: tensor}}      the answer is {"outputs": {name: tensor}}
//
// A tensor is {"type", "dims", "data"}, its bytes in base64. An error is {"error": text}.
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array,
  int16: Int16Array, int32: Int32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array,
};
const KEPT = 4; // sessions; an older one is released

const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function toText(data) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

// Returns a function: request -> answer.
export function makeAnswer(ort) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "fatal";
  const sessions = new Map();
  let count = 0;

  async function load(file) {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 4 };
    sessions.set(count, await ort.InferenceSession.create(toBytes(file), options));
    await sessions.get(count - KEPT)?.release();
    sessions.delete(count - KEPT);
    return { session: count++ };
  }

  async function run(session, feed) {
    const inputs = {};
    for (const [name, { type, dims, data }] of Object.entries(feed)) {
      inputs[name] = new ort.Tensor(type, new ARRAYS[type](toBytes(data).buffer), dims);
    }
    const outputs = {};
    for (const [name, tensor] of Object.entries(await sessions.get(session).run(inputs))) {
      outputs[name] = { type: tensor.type, dims: tensor.dims, data: toText(tensor.data) };
    }
    return { outputs };
  }

  return async (request) => {
    try {
      return await (request.load ? load(request.load) : run(request.session, request.run));
    } catch (error) {
      return { error: String(error?.message ?? error) };
    }
  };
}
