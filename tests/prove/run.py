#!/usr/bin/env python3
"""Proves the proof: takes away one safety step at a time, and shows that a named test fails without it.

    tests/prove/run.py                  all steps
    tests/prove/run.py --only sync      those whose name has the word
    tests/prove/run.py --list           what there is

The tree is copied, and in the copy each step of `steps.py` becomes a choice made at run time by DENYUT_WITHOUT, so that all
steps together need one build of the core's tests and one of the models. First every test has to pass with all steps in
place. Ends with 1 if a test passes without its step.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from steps import STEPS

ROOT = pathlib.Path(__file__).resolve().parents[2]
SWITCH = """//! Which safety step is taken away.
use std::sync::OnceLock;

pub(crate) fn is(name: &str) -> bool {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| std::env::var("DENYUT_WITHOUT").ok()).as_deref() == Some(name)
}
"""
TIMEOUT_S = 600


def target_dir():
    given = os.environ.get("CARGO_TARGET_DIR")
    return pathlib.Path(given) if given else ROOT / "target"


def copy_tree(to, but):
    """Files that are tracked or new, save those that steps change; unchanged ones keep their times for cargo."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    kept = set()
    for name in filter(None, names):
        source, copy = ROOT / name, to / name
        if not source.is_file():
            continue
        kept.add(copy)
        if name in but:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copyfile(source, copy)
    for path in to.rglob("*.rs"):
        if path not in kept and path.name != "mutant.rs":
            path.unlink()


def choice(step):
    """Both ways of a step, as one expression or statement."""
    end = ";" if step.old.endswith(";") else ""
    old, new = step.old.removesuffix(";"), step.new.removesuffix(";")
    without = f'crate::mutant::is("{step.name}")'
    if end and step.new == "()":
        return f"if !{without} {{ {old}; }}"
    return f"(if {without} {{ {new} }} else {{ {old} }}){end}"


def mutate(tree, steps):
    texts = {"src/lib.rs": "#![allow(warnings, clippy::all)]\n" + (ROOT / "src/lib.rs").read_text()}
    texts["src/lib.rs"] = texts["src/lib.rs"].replace("mod model;", "mod model;\nmod mutant;", 1)
    mutant = '#[path = "../../src/mutant.rs"]\nmod mutant;\n'
    texts["models/src/lib.rs"] = (ROOT / "models/src/lib.rs").read_text().replace("mod snapshot;", f"mod snapshot;\n{mutant}", 1)
    for step in steps:
        text = texts.get(step.file) or (ROOT / step.file).read_text()
        found = step.old + step.after
        if text.count(found) != 1:
            sys.exit(f"step {step.name!r}: stands {text.count(found)} times in {step.file}: {found!r}")
        texts[step.file] = text.replace(found, choice(step) + step.after)
    texts["src/mutant.rs"] = SWITCH
    for name, text in texts.items():
        path = tree / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def build(tree, target, model):
    """The test binary of the core, or of the models."""
    env = dict(os.environ, CARGO_TARGET_DIR=str(target / "models" if model else target))
    command = ["cargo", "test", "--lib", "--no-run"] + ([] if model else ["--no-default-features"])
    built = subprocess.run(command, cwd=tree / "models" if model else tree, env=env, stderr=subprocess.PIPE, text=True)
    found = re.findall(r"\((\S+/denyut(?:_models)?-[0-9a-f]+)\)", built.stderr)
    if built.returncode or not found:
        sys.exit(built.stderr[-8000:])
    return pathlib.Path(env["CARGO_TARGET_DIR"], found[-1]) if not found[-1].startswith("/") else pathlib.Path(found[-1])


def run(binary, step, without):
    """What became of the step's test: "ok", "failed" and its last words, or "nothing ran"."""
    env = dict(os.environ, RUST_BACKTRACE="0", **step.env)
    env.pop("DENYUT_WITHOUT", None)
    if without:
        env["DENYUT_WITHOUT"] = step.name
    try:
        done = subprocess.run(
            [binary, "--exact", step.test], cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return "failed", f"did not end within {TIMEOUT_S} s"
    if "running 0 tests" in done.stdout:
        return "nothing ran", ""
    if done.returncode == 0:
        return "ok", ""
    said = re.search(r"panicked at [^\n]*\n([^\n]*)", done.stdout + done.stderr)
    return "failed", said.group(1) if said else f"ended with {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="steps whose name has this word")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    steps = [step for step in STEPS if arguments.only in step.name]
    if arguments.list:
        for step in steps:
            print(f"{step.name:42} {step.test}")
        return
    target = target_dir()
    tree = target / "prove" / "tree"
    began = time.monotonic()
    copy_tree(tree, {"src/lib.rs", "models/src/lib.rs", *(step.file for step in steps)})
    mutate(tree, steps)
    binaries = {model: build(tree, target, model) for model in sorted({step.model for step in steps})}
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    sound = {}
    for step in steps:
        if step.test not in sound:
            sound[step.test] = run(binaries[step.model], step, without=False)
    broken = {test: result for test, result in sound.items() if result[0] != "ok"}
    if broken:
        sys.exit(f"these fail with all steps in place: {broken}")
    print(f"{len(sound)} tests pass with all steps in place\n\n{'without':42} {'test':98} outcome", flush=True)
    survived = 0
    for step in steps:
        result, said = run(binaries[step.model], step, without=True)
        survived += result != "failed"
        outcome = f"caught: {said[:90]}" if result == "failed" else "SURVIVED"
        print(f"{step.name:42} {step.test:98} {outcome}", flush=True)
    print(f"\n{len(steps)} steps, {survived} survived, {time.monotonic() - began:.0f} s")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
