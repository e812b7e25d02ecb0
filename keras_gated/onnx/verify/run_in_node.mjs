// Runs ONNX files in onnxruntime-web, in Node.js: each line of stdin is a request, each line of
// stdout the answer, see web_requests.mjs. The package is taken from node_modules of the current
// folder or of one above it.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { makeAnswer } from "./web_requests.mjs";

const answer = makeAnswer(createRequire(`${process.cwd()}/`)("onnxruntime-web"));
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
