#!/usr/bin/env python3
"""Holds the architecture: which folder of src may include the headers of which.

A folder's public headers are those of include/stent that it implements; its private ones are included by itself
alone. usage: layers.py ROOT [--print]
"""
import re
import sys
from pathlib import Path

# From each folder to those it may use. What stands in no list is a mistake.
ALLOWED = {
    "main": "cli",
    "cli": "config admin worker relay sandbox redirect demo doctor log net",
    "sandbox": "config log net",
    "redirect": "net",
    "doctor": "config codec net log",
    "demo": "config worker http log net",
    "admin": "config worker relay http log net",
    "http": "net",
    "worker": "config relay log net",
    "relay": "config heartbeat codec transport log net",
    "transport": "net",
    "heartbeat": "codec",
    "config": "codec transport log net",
    "net": "log",
    "codec": "",
    "log": "",
}
# Headers without a source file of their name. "": types that all may use.
OWNER = {"side": "", "clock": "", "utf8": "", "keepalive": "net", "demo": "demo", "doctor": "doctor", "tls": "transport", "negotiation": "codec",
    "events": "log", "redirect": "redirect"}


def owner_of(name, root):
    """The folder that a public header belongs to."""
    if name in OWNER:
        return OWNER[name]
    found = [p.parent.name for p in root.glob(f"src/*/{name}.c")]
    assert len(found) == 1, f"include/stent/{name}.h: {found or 'no source file'} of its name"
    return found[0]


def folder_of(path, root):
    if path.parent.name == "stent":
        return owner_of(path.stem, root)
    return "main" if path.parent.name == "src" else path.parent.name


def main():
    root = Path(sys.argv[1])
    arrows, errors = {}, []
    for path in sorted([*root.glob("src/**/*.[ch]"), *root.glob("include/stent/*.h")]):
        folder = folder_of(path, root)
        for header in re.findall(r'#include "([^"]+)"', path.read_text()):
            where, name = header.removesuffix(".h").split("/")
            to = owner_of(name, root) if where == "stent" else where
            if to in ("", folder):
                continue
            arrows.setdefault(folder, set()).add(to)
            if where != "stent":
                errors.append(f"{path}: includes {header}, which is private to src/{to}")
            elif to not in ALLOWED[folder].split():
                errors.append(f"{path}: includes {header}, but src/{folder} may not use src/{to}")
    if "--print" in sys.argv:
        for folder in ALLOWED:
            print(f"{folder:8} > {' '.join(sorted(arrows.get(folder, ())))}")
    print("\n".join(errors) or f"{sum(map(len, arrows.values()))} arrows, all allowed")
    return bool(errors)


sys.exit(main())
