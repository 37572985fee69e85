#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks every #include and the length of every source against floors.txt, and that the build has every source.

Exit 1 names each offence by file:line.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOPS = ("include", "src", "drivers", "tools", "bench", "examples", "tests", "fuzz")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Rules:
    def __init__(self, path):
        self.floor, self.apart, self.free, self.only, self.limit, self.long = {}, {}, [], {}, [], {}
        with open(path, encoding="utf-8") as rules:
            for number, line in enumerate(rules, 1):
                words = line.split("#", 1)[0].split()
                if words:
                    self.add(words[0], words[1:], f"{path}:{number}")

    def add(self, kind, words, where):
        if kind == "floor" and len(words) == 2:
            self.floor[words[1]] = int(words[0])
        elif kind == "apart" and words:
            self.apart[words[0]] = words[1:]
        elif kind == "free":
            self.free += words
        elif kind == "only" and len(words) > 1:
            self.only[words[0]] = words[1:]
        elif kind == "limit" and len(words) == 2:
            self.limit.append((int(words[0]), words[1]))
        elif kind == "long" and len(words) > 1:
            self.long[words[0]] = " ".join(words[1:])
        else:
            sys.exit(f"{where}: not a rule: {kind} {' '.join(words)}")

    def room(self, path):
        """The room a file is in, or None: src/fault, drivers/emu, tools."""
        parts = path.split("/")
        two = "/".join(parts[:2])
        if two in self.floor or two in self.apart:
            return two
        if parts[0] + "/*" in self.apart and len(parts) > 2:
            return two
        if parts[0] in self.apart or parts[0] in self.free:
            return parts[0]
        return None

    def why_not(self, path, target):
        """None if the file may include the target, else what is wrong with it."""
        room, other = self.room(path), self.room(target)
        if room == other or room in self.free:
            return None
        if room in self.floor:
            if within(target, ["include/uhmm"]):
                return None
            if other not in self.floor:
                return f"{room} must not see {target}"
            if self.floor[other] == self.floor[room]:
                return f"sideways: {room} and {other} are both on floor {self.floor[room]}"
            if self.floor[other] > self.floor[room]:
                return f"upward: {room} is on floor {self.floor[room]}, {other} on {self.floor[other]}"
            return None
        sees = self.apart.get(room, self.apart.get(room.split("/")[0] + "/*", []))
        return None if within(target, sees) else f"{room} sees {' '.join(sees) or 'itself only'}, not {target}"


def within(path, places):
    return any(path == place or path.startswith(place + "/") for place in places)


def resolve(path, name, quoted):
    """The file of this tree that an include names, or None for a system header."""
    tries = [os.path.dirname(path)] if quoted else []
    for folder in tries + ["include", "src", ""]:
        target = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(os.path.join(ROOT, target)):
            return target
    return None


def sources():
    for top in TOPS:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), ROOT)


def check(path, rules):
    offences = []
    with open(os.path.join(ROOT, path), encoding="utf-8") as source:
        lines = source.read().splitlines()
    if rules.room(path) is None:
        offences.append(f"{path}:1: in no room of floors.txt")
        return offences
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        name = found.group(2)
        target = resolve(path, name, found.group(1) == '"')
        why = None
        if target:
            why = rules.why_not(path, target)
        elif name in rules.only and not within(path, rules.only[name]):
            why = f"<{name}> belongs to {rules.only[name][0]}"
        if why:
            offences.append(f"{path}:{number}: {why}")
    for most, place in rules.limit:
        if within(path, [place]) and len(lines) > most and path not in rules.long:
            offences.append(f"{path}:{len(lines)}: {len(lines)} lines, {most} are allowed: cut it, or give a reason "
                            "in floors.txt")
    return offences


def main():
    rules = Rules(os.path.join(ROOT, "floors.txt"))
    offences, files = [], 0
    for path in sources():
        files += 1
        offences += check(path, rules)
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as build:
        listed = build.read()
    offences += [f"{path}:1: not listed in meson.build" for path in sources()
                 if path.startswith(("src/", "drivers/")) and path.endswith(".c") and f"'{path}'" not in listed]
    offences += [f"floors.txt: long {path}: no such file" for path in rules.long
                 if not os.path.isfile(os.path.join(ROOT, path))]
    for offence in offences:
        print(offence)
    print(f"{files} files, {len(offences)} offences")
    return 1 if offences or not files else 0


sys.exit(main())
