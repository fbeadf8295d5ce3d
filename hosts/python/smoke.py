#!/usr/bin/env python3
"""Runs one task through a runner component from Python, to show that the contract fits this ecosystem.

Usage: smoke.py COMPONENT CONFIG.json TASK.json INPUTS_DIR OUTPUTS_DIR

Each event is a line of JSON on standard output, {"tag": ..., "val": ...} with the contract's names; the last line is
{"outcome": ...} (exit code 0) or {"error": ...} (exit code 1). The task's fields have the contract's names too; all but
`id`, `image` and `command` may be left out, and `options` is an object.

Unlike podrun-host it grants every network address: the Python package cannot do less. It keeps no journal.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from wasmtime import Config, DirPerms, Engine, FilePerms, Store, WasiConfig, WasmtimeError
from wasmtime import _bindings as c_api
from wasmtime.component import Component, Linker, Record, Variant

PACKAGE = "podrun:task-runner/{}@0.1.0-draft"


def proxies():
    """The variables that say which proxy leads to a cluster, as every program of Kubernetes reads them."""
    names = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"]
    return [(name, os.environ[name]) for name in names if name in os.environ]


def sandbox():
    """What every call gets: it can find its proxy, and nothing else."""
    wasi = WasiConfig()
    wasi.env = proxies()
    return wasi


def plain(value):
    """A value of the contract as JSON knows it."""
    if isinstance(value, Variant):
        return {"tag": value.tag, "val": plain(value.payload)}
    if isinstance(value, Record):
        return {name: plain(field) for name, field in vars(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def record(**fields):
    """A record; the contract's hyphens are underscores here."""
    made = Record()
    for name, value in fields.items():
        setattr(made, name.replace("_", "-"), value)
    return made


def task_of(given):
    """The contract's task from its JSON."""
    return record(
        id=given["id"],
        image=given["image"],
        command=given["command"],
        env=[tuple(pair) for pair in given.get("env", [])],
        inputs=[record(path=file["path"], mode=file["mode"]) for file in given.get("inputs", [])],
        outputs=given.get("outputs", []),
        timeout=given.get("timeout"),
        labels=[tuple(pair) for pair in given.get("labels", [])],
        options=json.dumps(given.get("options", {})),
    )


class Runner:
    """One component; each call uses a fresh instance."""

    def __init__(self, path):
        config = Config()
        config.wasm_component_model = True
        self.engine = Engine(config)
        self.component = Component.from_file(self.engine, path)
        self.credential_command = None

    def call(self, name, *arguments, wasi=None):
        """Calls the export `name`."""
        store = Store(self.engine)
        store.set_wasi(wasi or sandbox())
        linker = Linker(self.engine)
        linker.add_wasip2()
        with linker.root() as root, root.add_instance(PACKAGE.format("host")) as host:
            host.add_func("emit", self.emit)
            host.add_func("authenticate", self.authenticate)
        instance = linker.instantiate(store, self.component)
        interface = instance.get_export_index(store, PACKAGE.format("runner"))
        if interface is None:
            raise SystemExit(f"the component does not export {PACKAGE.format('runner')}")
        function = instance.get_func(store, instance.get_export_index(store, name, interface))
        result = function(store, *arguments)
        function.post_return(store)
        return result

    def emit(self, _store, events, cursor):
        """Writing the events is this host's way of making them durable."""
        for event in events:
            print(json.dumps(plain(event)), flush=True)
        return "proceed"

    def authenticate(self, _store, _refused):
        """Runs the command that `connect` named."""
        if self.credential_command is None:
            return None
        command, environment = self.credential_command
        assignments = [f"{name}={value}" for name, value in environment]
        answer = subprocess.run(["env", *assignments, *command], stdout=subprocess.PIPE, check=True, text=True)
        return Variant("exec-credential", answer.stdout)


def main(component, config, task, inputs, outputs):
    """Runs the task; the exit code."""
    runner = Runner(component)
    config = Path(config).read_text(encoding="utf-8")
    connection = runner.call("connect", config)
    if not isinstance(connection, Variant):
        runner.credential_command = getattr(connection, "credential-command")
        wasi = sandbox()
        wasi.inherit_stderr()
        wasi.preopen_dir(inputs, "/inputs", DirPerms.READ_ONLY, FilePerms.READ_ONLY)
        wasi.preopen_dir(outputs, "/outputs")
        c_api.wasi_config_inherit_network(wasi.ptr())
        c_api.wasi_config_allow_ip_name_lookup(wasi.ptr(), True)
        task = task_of(json.loads(Path(task).read_text(encoding="utf-8")))
        answer = runner.call("run", config, task, None, wasi=wasi)
    else:
        answer = connection
    # A result arrives as its payload alone: a record is the outcome, a variant the error.
    failed = isinstance(answer, Variant)
    print(json.dumps({"error" if failed else "outcome": plain(answer)}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except WasmtimeError as error:
        raise SystemExit(f"the runner ended without an answer: {error}") from error
