#!/usr/bin/env node
// Runs one task through a runner component from Node, to show that the contract fits this ecosystem.
//
// Usage: smoke.mjs COMPONENT CONFIG.json TASK.json INPUTS_DIR OUTPUTS_DIR
//
// Each event is a line of JSON on standard output, {"tag": ..., "val": ...} with the contract's names; the last line is
// {"outcome": ...} (exit code 0) or {"error": ...} (exit code 1). The task's fields have the contract's names too; all
// but `id`, `image` and `command` may be left out, and `options` is an object.
//
// Unlike podrun-host it grants every network address and a writable /inputs. It keeps no journal. The component is
// translated anew each time, which takes seconds; jco's exports block their thread, so a worker would run them.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

import { transpile } from '@bytecodealliance/jco-transpile';
import { filesystem } from '@bytecodealliance/preview2-shim';
import { WASIShim } from '@bytecodealliance/preview2-shim/instantiation';

const usage = 'usage: smoke.mjs COMPONENT CONFIG.json TASK.json INPUTS_DIR OUTPUTS_DIR';

// wasi-libc asks for the right to change a directory when it opens one to delete what is in it. The shim refuses to open
// it then ("unsupported"), although it lets every directory be changed.
const { openAt } = filesystem.types.Descriptor.prototype;
filesystem.types.Descriptor.prototype.openAt = function (pathFlags, path, openFlags, flags) {
  return openAt.call(this, pathFlags, path, openFlags, { ...flags, mutateDirectory: false });
};

/** The variables that say which proxy leads to a cluster, as every program of Kubernetes reads them. */
function proxies() {
  const names = ['HTTPS_PROXY', 'https_proxy', 'NO_PROXY', 'no_proxy'];
  return Object.fromEntries(names.filter((name) => name in process.env).map((name) => [name, process.env[name]]));
}

/** A value of the contract as JSON knows it: hyphens in names, no BigInt, null for what is missing. */
function plain(value) {
  if (value === undefined) return null;
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  const hyphens = (name) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [hyphens(name), plain(field)]));
}

/** A line is written before this returns, even to a pipe. */
function print(value) {
  let rest = Buffer.from(`${JSON.stringify(plain(value))}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

/** The contract's task from its JSON. */
function taskOf({ id, image, command, env = [], inputs = [], outputs = [], timeout, labels = [], options = {} }) {
  return { id, image, command, env, inputs, outputs, timeout, labels, options: JSON.stringify(options) };
}

/** Translates the component; what comes back makes a fresh instance with each call. */
async function load(component, credentialCommand) {
  const { files } = await transpile(component, { name: 'runner', instantiation: 'async' });
  const folder = mkdtempSync(join(tmpdir(), 'podrun-smoke-'));
  const modules = new Map();
  let instantiate;
  try {
    for (const [name, bytes] of Object.entries(files)) {
      if (name.endsWith('.wasm')) modules.set(name, await WebAssembly.compile(bytes));
    }
    writeFileSync(join(folder, 'runner.mjs'), files['runner.js']);
    ({ instantiate } = await import(pathToFileURL(join(folder, 'runner.mjs'))));
  } finally {
    rmSync(folder, { recursive: true });
  }
  const host = {
    /** Writing the events is this host's way of making them durable. */
    emit(events) {
      events.forEach(print);
      return 'proceed';
    },
    /** Runs the command that `connect` named. */
    authenticate() {
      const named = credentialCommand();
      if (!named) return undefined;
      const [[program, ...words], environment] = named;
      const env = { ...process.env, ...Object.fromEntries(environment) };
      const { status, stdout, error } = spawnSync(program, words, { env, stdio: ['ignore', 'pipe', 'inherit'] });
      if (error || status !== 0) throw error ?? new Error(`credential command ${program} ended with ${status}`);
      return { tag: 'exec-credential', val: stdout.toString() };
    },
  };
  return async (sandbox) => {
    const shim = new WASIShim({ sandbox: { env: proxies(), args: [], ...sandbox } });
    const imports = { ...shim.getImportObject(), 'podrun:task-runner/host': host };
    const instance = await instantiate((name) => modules.get(name), imports);
    return instance['podrun:task-runner/runner@0.1.0-draft'];
  };
}

async function main([component, config, task, inputs, outputs]) {
  let connection;
  const instance = await load(component, () => connection?.credentialCommand);
  const given = readFileSync(config, 'utf8');
  try {
    const offline = await instance({ preopens: {}, enableNetwork: false });
    connection = offline.connect(given);
    const runner = await instance({ preopens: { '/inputs': resolve(inputs), '/outputs': resolve(outputs) } });
    print({ outcome: runner.run(given, taskOf(JSON.parse(readFileSync(task, 'utf8'))), undefined) });
    return 0;
  } catch (error) {
    // A result's error is thrown as it is; anything else is a crash.
    if (error?.tag === undefined) throw error;
    print({ error });
    return 1;
  }
}

if (process.argv.length !== 7) {
  process.stderr.write(`${usage}\n`);
  process.exit(2);
}
// The shim keeps threads of its own, which an exit ends.
process.exit(await main(process.argv.slice(2)));
