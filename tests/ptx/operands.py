"""From names to operands: registers, numbers, symbols, addresses."""

import re

from .executor import Operand
from .syntax import listed, number
from .tables import SPECIAL

NEGATED, LANE = 3, 4
KERNEL_PARAMETERS, SHARED_BASE = 0x72 << 56, 1024  # as in sim/memory.h


class Function:
    """An entry or a function of a module. params, rets: (name, place, bytes); the place is one in the kernel's buffer
    of an entry, and among a lane's parameters otherwise."""

    def __init__(self, name, entry, line):
        self.name, self.entry, self.line = name, entry, line
        self.params, self.rets, self.param_bytes = [], [], 0
        self.labels, self.symbols, self.shared = {}, {}, set()
        self.pc = self.end = None
        self.maxntid = self.reqntid = None
        self.scopes, self.branches = [{}], []  # while it is parsed: names in braces; (instruction, label)


class Operands:
    """A part of the parser. f: the function that is parsed now."""

    def register(self, name):
        if name[1:] in SPECIAL:
            return SPECIAL.index(name[1:])
        for scope in reversed(self.f.scopes):
            if name in scope:
                return scope[name]
        raise NotImplementedError("register " + name)

    def constant(self, value):
        """Its place in the table of constants."""
        value &= 0xFFFFFFFFFFFFFFFF
        if value not in self.constant_index:
            self.constant_index[value] = len(self.constants)
            self.constants.append(value)
        return self.constant_index[value]

    def symbol(self, name):
        """("constant", an address), or ("lane", a place among a lane's parameters)."""
        f = self.f
        for scope in reversed(f.scopes):
            if name in scope:
                return scope[name]
        for parameter, at, _ in f.params + f.rets:
            if parameter == name:
                return ("constant", KERNEL_PARAMETERS + at) if f.entry else ("lane", at)
        if name in f.symbols:
            return "constant", f.symbols[name]
        if name in self.shared:
            f.shared.add(name)
            return "constant", SHARED_BASE
        if name in self.globals:
            return "constant", self.globals[name][0]
        raise NotImplementedError("symbol " + name)

    def operand(self, text):
        text = text.strip()
        if text == "_":
            return Operand()
        if text.startswith("!"):
            return Operand(3, self.register(text[1:].strip()), 0)
        if text.startswith("%"):
            return Operand(1, self.register(text), 0)
        if re.match(r"[-\d]", text):
            return Operand(2, 0, self.constant(number(text)))
        if text == "WARP_SZ":
            return Operand(2, 0, self.constant(32))
        for scope in reversed(self.f.scopes):
            if isinstance(scope.get(text), int):
                return Operand(1, scope[text], 0)
        m = re.match(r"([\w$]+)\s*(?:\+\s*(-?\d+))?$", text)
        if not m:
            raise NotImplementedError("operand " + text)
        kind, value = self.symbol(m[1])
        value += int(m[2] or 0)
        return Operand(LANE, 0, value) if kind == "lane" else Operand(2, 0, self.constant(value))

    def address(self, i, text):
        """The first source of the instruction: [register + number] or [symbol + number]."""
        m = re.match(r"([%\w$.]+)\s*(?:\+\s*(-?(?:0x)?[0-9a-fA-F]+))?$", text.strip()[1:-1].strip())
        if not m:
            raise NotImplementedError("address " + text)
        i.s[0], i.off = self.operand(m[1]), int(m[2] or "0", 0)
        i.ns = 1

    def destinations(self, i, text):
        """One, or several in braces, or two with a bar between them."""
        names = listed(text) if text.strip().startswith("{") else text.split("|")
        i.nd = len(names)
        for k, name in enumerate(names):
            i.d[k] = self.operand(name)
            assert i.d[k].kind in (0, 1), text

    def sources(self, i, texts):
        """After those that the instruction has already."""
        for k, text in enumerate(texts, i.ns):
            i.s[k] = self.operand(text)
        i.ns += len(texts)
