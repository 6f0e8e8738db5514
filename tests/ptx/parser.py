"""From PTX to instructions: the statements of a module and the bodies of its functions.

A register of an entry has its place for good; one of a function has FUNCTION_REGISTERS added to it, until it is known
how many registers the entries have.
"""

import bisect
import re

import numpy as np

from .instructions import Instructions
from .operands import Function
from .syntax import number, strip
from .tables import OPS, SPECIAL, size_of

FUNCTION_REGISTERS = 1 << 24
_HEAD = re.compile(r"\s*((?:\.(?:visible|weak|extern)\s+)*)\.(entry|func)\b")
_SIGNATURE = re.compile(r"\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?", re.S)
_DIRECTIVE = re.compile(r"\.(version|target|address_size)[^\n]*")
_LABEL = re.compile(r"([\w$%.]+)\s*:(?!:)")
_VARIABLE = re.compile(
    r"(?:\.(?:visible|weak|extern|common)\s+)*\.(shared|global|const|local)\s+(?:\.attribute\(\S+\)\s+)?"
    r"(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(?:\[(\d*)\])?\s*(?:=\s*(.*))?$",
    re.S,
)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?$"
)


class Parser(Instructions):
    """What a module is: code, functions, and the memory that they need."""

    def __init__(self, text):
        self.code, self.args, self.calls = [], [], []
        self.constants, self.constant_index = [0], {0: 0}
        self.functions, self.globals, self.shared = {}, {}, {}  # globals: {name: (address, bytes)}
        self.lane_bytes = self.local_bytes = 0  # of a lane: parameters of functions, local memory
        self.entry_registers, self.function_registers, self.most_registers = len(SPECIAL), 0, len(SPECIAL)
        self.called, self.f, self.buffers = [], None, []  # called: (instruction, function), until all are parsed
        self.text = strip(text)
        self._lines = [0] + [m.end() for m in re.finditer("\n", self.text)]
        self._module()
        self._finish()

    @property
    def registers(self):
        return self.most_registers + self.function_registers

    def _line(self, at):
        return bisect.bisect_right(self._lines, at)

    def _blank(self, at):
        while at < len(self.text) and self.text[at].isspace():
            at += 1
        return at

    def _module(self):
        at = self._blank(0)
        while at < len(self.text):
            if m := _HEAD.match(self.text, at):
                at = self._function(m, at)
            elif m := _DIRECTIVE.match(self.text, at):
                at = m.end()
            else:
                end = self.text.index(";", at)
                self._variable(self.text[at:end].strip())
                at = end + 1
            at = self._blank(at)

    def _finish(self):
        for insn, name in self.called:
            if self.functions[name].pc is None:
                raise NotImplementedError(f"call of {name}, which has no body")
            insn.target = self.functions[name].pc
        shift = self.most_registers - FUNCTION_REGISTERS
        for i in self.code:
            if i.guard >= FUNCTION_REGISTERS:
                i.guard += shift
            for operand in (*i.d[: i.nd], *i.s[: i.ns]):
                if operand.kind in (1, 3) and operand.reg >= FUNCTION_REGISTERS:
                    operand.reg += shift

    def _variable(self, text):
        m = _VARIABLE.match(text)
        if not m:
            raise NotImplementedError("statement: " + text[:100])
        space, align, kind, name, count, init = m.groups()
        align, size = int(align or size_of(kind)), size_of(kind) * int(count or 1)
        if space == "shared":  # a kernel has one; None: the launch says how large it is
            self.shared[name] = None if count == "" else size
        elif space == "local":
            at = -(-self.local_bytes // align) * align
            self.local_bytes = -(-(at + size) // 16) * 16
            self.f.symbols[name] = at
        else:
            values = re.findall(r"[^,\s{}]+", init or "")
            raw = b"".join(number(v).to_bytes(8, "little")[: size_of(kind)] for v in values)
            buffer = np.zeros(size + 64, np.uint8)
            begin = -buffer.ctypes.data % 64
            buffer[begin : begin + len(raw)] = np.frombuffer(raw, np.uint8)
            self.buffers.append(buffer)
            self.globals[name] = buffer.ctypes.data + begin, size

    def _function(self, head, at):
        """Parses a function, or its declaration; gives the place after it."""
        signature = _SIGNATURE.match(self.text, head.end())
        rets, name, params = signature.groups()
        if name not in self.functions:
            f = self.functions[name] = Function(name, head[2] == "entry", self._line(at))
            self._parameters(f, rets, f.rets)
            self._parameters(f, params, f.params)
        f = self.functions[name]
        end = re.compile("[{;]").search(self.text, signature.end()).start()
        directives = self.text[signature.end() : end]
        for key in ("maxntid", "reqntid"):
            if q := re.search(rf"\.{key}\s+([\d,\s]+)", directives):
                setattr(f, key, [int(v) for v in re.findall(r"\d+", q[1])])
        if self.text[end] == ";":
            return end + 1
        self.f, f.pc, self.entry_registers = f, len(self.code), len(SPECIAL)
        end = self._body(f, end + 1)
        self.most_registers = max(self.most_registers, self.entry_registers)
        f.end = len(self.code)
        return end

    def _parameters(self, f, text, into):
        for part in filter(None, map(str.strip, (text or "").split(","))):
            q = _PARAMETER.match(part)
            if not q:
                raise NotImplementedError("parameter: " + part)
            align, kind, name, count = q.groups()
            size, align = size_of(kind) * int(count or 1), int(align or size_of(kind))
            if f.entry:
                at = -(-f.param_bytes // align) * align
                f.param_bytes = at + size
            else:
                at = self._lane_place(size)
            into.append((name, at, size))

    def _lane_place(self, size):
        at = -(-self.lane_bytes // 16) * 16
        self.lane_bytes = -(-(at + size) // 16) * 16
        return at

    def _body(self, f, at):
        while True:
            at = self._blank(at)
            if self.text[at] == "{":
                f.scopes.append({})
                at += 1
            elif self.text[at] == "}":
                f.scopes.pop()
                at += 1
                if not f.scopes:
                    break
            elif m := _LABEL.match(self.text, at):
                f.labels[m[1]] = len(self.code)
                at = m.end()
            else:
                end = self.text.index(";", at)
                self._statement(" ".join(self.text[at:end].split()), self._line(at))
                at = end + 1
        for insn, label in f.branches:
            insn.target = f.labels[label]
        if OPS[self.code[-1].op] not in ("ret", "exit", "bra", "trap"):
            self.emit("ret")
        return at

    def _statement(self, text, line):
        scope = self.f.scopes[-1]
        if text.startswith(".reg"):
            for part in re.match(r"\.reg\s+\.\w+\s+(.*)$", text)[1].split(","):
                q = re.match(r"([%\w$]+)<(\d+)>$", part.strip())
                for name in [f"{q[1]}{k}" for k in range(int(q[2]))] if q else [part.strip()]:
                    scope[name] = self._new_register()
        elif text.startswith(".param"):
            _, kind, name, count = _PARAMETER.match(text).groups()
            scope[name] = "lane", self._lane_place(size_of(kind) * int(count or 1))
        elif text.startswith(".") and not text.startswith(".pragma"):
            self._variable(text)
        elif text and not text.startswith("."):
            self.instruction(text, line)

    def _new_register(self):
        if self.f.entry:
            self.entry_registers += 1
            return self.entry_registers - 1
        self.function_registers += 1
        return FUNCTION_REGISTERS + self.function_registers - 1
