"""Runs PTX on the CPU: parses a module (nvcc's or Triton's), executes its kernels on real (host) memory with sim/core.so.

    module = Module(ptx_text)
    memory = Memory(); memory.tensor(t, "x", init=True)
    module.launch(name, grid, threads, params: bytes, shared=0, seed=0, order=0|1|2, policy=0|1|2, diverge=0|1, ...)

Unknown instructions, modifiers and operands raise NotImplementedError. README.md says what is checked.
"""

import ctypes
import re
import struct

from . import targets
from .work import HERE

OPS = re.findall(r"X\((\w+)\)", (HERE / "sim/ops.h").read_text())
OP = {name: i for i, name in enumerate(OPS)}
TYPES = "pred b8 b16 b32 b64 u8 u16 u32 u64 s8 s16 s32 s64 f16 f16x2 bf16 bf16x2 f32 f64 b128 f32x2 s16x2 u16x2".split()
TY = {t: i for i, t in enumerate(TYPES)}
SIZE = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2, "b64": 8, "u64": 8,
        "s64": 8, "f64": 8, "b128": 16, "f32x2": 8}
size_of = lambda t: SIZE.get(t, 4)  # noqa: E731
SPACES = {"global": 1, "shared": 2, "shared::cta": 2, "local": 3, "param": 4, "const": 5}
FLAGS = {n: 1 << i for i, n in enumerate(
    "FTZ SAT APPROX FULL HI LO WIDE NANF NC WRAP CLAMP RELEASE ACQUIRE UNI VOLATILE XORSIGN CC TOSPACE CG RELAXED".split())}
ROUND = {n: i + 1 for i, n in enumerate("rn rz rm rp rni rzi rmi rpi rna".split())}
CMP = {n: i for i, n in enumerate("eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan".split())}
BOOL = {"and": 1, "or": 2, "xor": 3}
ATOM = {n: i + 1 for i, n in enumerate("add min max exch cas and or xor inc dec".split())}
SREGS = ("tid.x tid.y tid.z ntid.x ntid.y ntid.z ctaid.x ctaid.y ctaid.z nctaid.x nctaid.y nctaid.z laneid warpid "
         "lanemask_eq lanemask_lt lanemask_le lanemask_gt lanemask_ge cluster_ctarank cluster_nctarank nwarpid "
         "dynamic_smem_size WARP_SZ").split()
W_KPARAM, SHARED_BASE, FUNC_REGS = 0x72 << 56, 1024, 1 << 24


class Opnd(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("reg", ctypes.c_int32), ("imm", ctypes.c_uint64)]


FIELDS = "op ty ty2 guard gneg flags round cmp boolop space vec atom nd ns target line func aux".split()


class Insn(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int32) for n in FIELDS] + [("off", ctypes.c_int64), ("d", Opnd * 8), ("s", Opnd * 10)]


class Arg(ctypes.Structure):
    _fields_ = [("from_", ctypes.c_int32), ("to", ctypes.c_int32), ("size", ctypes.c_int32)]


class Call(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int32) for n in ("args_begin", "args_end", "rets_begin", "rets_end")]


class Config(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint32 * 3), ("block", ctypes.c_uint32 * 3), ("shared_bytes", ctypes.c_uint32),
                ("entry", ctypes.c_int32), ("seed", ctypes.c_uint64), ("resident", ctypes.c_int32),
                ("order", ctypes.c_int32), ("policy", ctypes.c_int32), ("diverge", ctypes.c_int32),
                ("race", ctypes.c_int32), ("init", ctypes.c_int32), ("budget", ctypes.c_int64), ("ulp", ctypes.c_int32)]


def _core():
    c = ctypes.CDLL(str(targets.executor()))
    c.sim_new.restype = ctypes.c_void_p
    c.sim_launch.restype = c.sim_reports.restype = ctypes.c_char_p
    c.region_add.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]
    c.region_mark.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int32, ctypes.c_int32]
    c.region_remove.argtypes = [ctypes.c_uint64]
    c.region_state.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    c.sim_launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64]
    c.sim_hits.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert c.insn_size() == ctypes.sizeof(Insn), (c.insn_size(), ctypes.sizeof(Insn))
    return c


core = _core()


class SimError(Exception):
    pass


class Function:
    def __init__(self, name, entry):
        self.name, self.entry = name, entry
        self.params, self.rets = [], []  # (name, offset, size): of an entry in its buffer, else in a lane's memory
        self.regs, self.labels, self.symbols = {}, {}, {}
        self.pc, self.shared, self.maxntid, self.reqntid, self.minnctapersm = None, 0, None, None, None
        self.param_bytes = 0
        self.line = 0


def _strip(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"^[ \t]*\.(loc|file)\b[^\n]*", "", text, flags=re.M)
    return re.sub(r"\.section\s+\S+\s*\{.*?\}", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)


class Module:
    cache = {}

    def __new__(cls, text):
        if text not in cls.cache:
            self = cls.cache[text] = super().__new__(cls)
            self._load(text)
        return cls.cache[text]

    def _load(self, text):
        self.text = text
        self.code, self.args, self.calls = [], [], []
        self.consts, self.const_index = [0], {0: 0}
        self.lane_params, self.local_bytes = 0, 0
        self.entry_regs, self.func_regs, self.most_regs = len(SREGS), 0, len(SREGS)
        self.functions, self.globals, self.shared_symbols, self.keep = {}, {}, {}, []
        self.shared_top = 0
        self.op_counts = {}
        self.fixups = []
        self._parse(_strip(text))
        self.n_regs = self.most_regs + self.func_regs
        shift = self.most_regs - FUNC_REGS
        for i in self.code:
            if i.guard >= FUNC_REGS:
                i.guard += shift
            for o in (*i.d[: i.nd], *i.s[: i.ns]):
                if o.kind in (1, 3) and o.reg >= FUNC_REGS:
                    o.reg += shift
        code = (Insn * len(self.code))(*self.code)
        args, calls = (Arg * max(1, len(self.args)))(*self.args), (Call * max(1, len(self.calls)))(*self.calls)
        consts = (ctypes.c_uint64 * len(self.consts))(*self.consts)
        u = ctypes.c_int64
        self.handle = ctypes.c_void_p(core.sim_new(code, u(len(self.code)), args, u(len(self.args)), calls, u(len(self.calls)), consts,
                                   u(len(self.consts)), ctypes.c_int32(self.n_regs), ctypes.c_uint32(self.lane_params),
                                   ctypes.c_uint32(self.local_bytes)))
        self.lines = [i.line for i in self.code]
        self.n = len(self.code)

    # ------------------------------------------------------------ parsing
    def _parse(self, t):
        self.t, pos, n = t, 0, len(t)
        starts = [0] + [m.end() for m in re.finditer("\n", t)]
        import bisect
        self.line_of = lambda p: bisect.bisect_right(starts, p)  # noqa: E731
        head = re.compile(r"\s*((?:\.(?:visible|weak|extern)\s+)*)\.(entry|func)\b")
        while True:
            while pos < n and t[pos].isspace():
                pos += 1
            if pos >= n:
                break
            m = head.match(t, pos)
            if m:
                pos = self._function(m, pos)
                continue
            m = re.compile(r"\.(version|target|address_size)[^\n]*").match(t, pos)
            if m:
                pos = m.end()
                continue
            end = t.index(";", pos)
            brace = t.find("{", pos, end)
            stmt = t[pos:end].strip()
            self._variable(stmt, None)
            pos = end + 1
            del brace
        for insn, name, kind in self.fixups:
            f = self.functions[name]
            if f.pc is None:
                raise NotImplementedError(f"call of {name}, which has no body")
            insn.target = f.pc

    def _variable(self, stmt, f):
        m = re.match(r"(?:\.(?:visible|weak|extern|common)\s+)*\.(shared|global|const|local)\s+(?:\.attribute\(\S+\)\s+)?(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(?:\[(\d*)\])?\s*(?:=\s*(.*))?$", stmt, re.S)
        if not m:
            raise NotImplementedError("statement: " + stmt[:100])
        space, align, ty, name, count, init = m.groups()
        align = int(align or size_of(ty))
        size = size_of(ty) * int(count or 1) if count != "" else 0
        if space == "shared":
            if count == "":  # dynamic
                self.shared_symbols[name] = ("dynamic", align)
                (f or self).__dict__.setdefault("dyn", True)
                return
            self.shared_symbols[name] = ("static", 0, size)  # a kernel of ours has one
        elif space == "local":
            at = -(-self.local_bytes // align) * align
            self.local_bytes = -(-(at + size) // 16) * 16
            f.symbols[name] = ("local", at)
        else:
            import numpy as np
            buffer = np.zeros(size + 64, np.uint8)
            if init:
                values = re.findall(r"[^,\s{}]+", init)
                raw = b"".join(self._number(v, ty).to_bytes(8, "little")[: size_of(ty)] for v in values)
                buffer_at = (-buffer.ctypes.data) % 64
                buffer[buffer_at : buffer_at + len(raw)] = np.frombuffer(raw, np.uint8)
            base = buffer.ctypes.data + (-buffer.ctypes.data) % 64
            self.keep.append(buffer)
            self.globals[name] = base, size
            core.region_add(base, size, name.encode(), 3, 1)

    def _number(self, v, ty="b64"):
        if v[:2] in ("0f", "0F"):
            return int(v[2:], 16)
        if v[:2] in ("0d", "0D"):
            return int(v[2:], 16)
        v = v.rstrip("U")
        return int(v, 0) & 0xFFFFFFFFFFFFFFFF

    def _function(self, m, pos):
        t = self.t
        i = m.end()
        entry = m[2] == "entry"
        rest = re.compile(r"\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?", re.S).match(t, i)
        rets, name, params = rest.groups()
        f = self.functions.get(name) or Function(name, entry)
        fresh = name not in self.functions
        self.functions[name] = f
        f.line = self.line_of(pos)
        if fresh:
            for text, into in ((rets, f.rets), (params, f.params)):
                for p in filter(None, map(str.strip, (text or "").split(","))):
                    q = re.match(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?$", p)
                    if not q:
                        raise NotImplementedError("parameter: " + p)
                    align, ty, pname, count = q.groups()
                    size = size_of(ty) * int(count or 1)
                    align = int(align or size_of(ty))
                    if entry:
                        at = -(-f.param_bytes // align) * align
                        f.param_bytes = at + size
                    else:
                        at = self._lane_slot(size)
                    into.append((pname, at, size))
        i = rest.end()
        while t[i] not in "{;":
            i += 1
        directives = t[rest.end() : i]
        for key in ("maxntid", "reqntid", "minnctapersm"):
            q = re.search(rf"\.{key}\s+([\d,\s]+)", directives)
            if q:
                setattr(f, key, [int(v) for v in re.findall(r"\d+", q[1])])
        if t[i] == ";":
            return i + 1
        f.pc = len(self.code)
        self.entry_regs = len(SREGS)
        end = self._body(f, i + 1)
        self.most_regs = max(self.most_regs, self.entry_regs)
        f.end = len(self.code)
        return end

    def _lane_slot(self, size):
        at = -(-self.lane_params // 16) * 16
        self.lane_params = -(-(at + size) // 16) * 16
        return at

    def _body(self, f, pos):
        t, scopes = self.t, [{}]
        label = re.compile(r"([\w$%.]+)\s*:(?!:)")
        pending = []
        while True:
            while t[pos].isspace():
                pos += 1
            c = t[pos]
            if c == "{":
                scopes.append({})
                pos += 1
                continue
            if c == "}":
                scopes.pop()
                pos += 1
                if not scopes:
                    break
                continue
            m = label.match(t, pos)
            if m:
                f.labels[m[1]] = len(self.code)
                pos = m.end()
                continue
            end = t.index(";", pos)
            self._statement(f, t[pos:end], scopes, self.line_of(pos), pending)
            pos = end + 1
        for insn, name in pending:
            insn.target = f.labels[name]
        last = self.code[-1]
        if OPS[last.op] not in ("ret", "exit", "bra", "trap"):  # falls off the end
            self._emit(f, "ret", 0)
        return pos

    def _reg(self, f, name, scopes):
        if name[1:] in SREGS:
            return SREGS.index(name[1:])
        for s in reversed(scopes):
            if name in s:
                return s[name]
        raise NotImplementedError("register " + name)

    def _const(self, value):
        value &= 0xFFFFFFFFFFFFFFFF
        if value not in self.const_index:
            self.const_index[value] = len(self.consts)
            self.consts.append(value)
        return self.const_index[value]

    def _symbol(self, f, name, scopes):
        """(kind, value): 'const', an address; 'lane', a place among a lane's parameters."""
        for s in reversed(scopes):
            if name in s:
                return s[name]
        for pname, at, _ in f.params + f.rets:
            if pname == name:
                return ("const", W_KPARAM + at) if f.entry else ("lane", at)
        if name in f.symbols:
            return "const", f.symbols[name][1]
        if name in self.shared_symbols:
            s = self.shared_symbols[name]
            f.__dict__.setdefault("uses_shared", set()).add(name)
            return "const", SHARED_BASE + (s[1] if s[0] == "static" else 0)
        if name in self.globals:
            return "const", self.globals[name][0]
        raise NotImplementedError("symbol " + name)

    def _operand(self, f, text, scopes):
        text = text.strip()
        o = Opnd()
        if text == "_":
            return o
        if text.startswith("!"):
            o.kind, o.reg = 3, self._reg(f, text[1:].strip(), scopes)
        elif text.startswith("%") and text[1:].split(".")[0] not in ():
            o.kind, o.reg = 1, self._reg(f, text, scopes)
        elif re.match(r"[-\d]", text):
            o.kind, o.imm = 2, self._const(self._number(text))
        elif text == "WARP_SZ":
            o.kind, o.imm = 2, self._const(32)
        else:
            for s in reversed(scopes):
                if text in s and isinstance(s[text], int):
                    o.kind, o.reg = 1, s[text]
                    return o
            m = re.match(r"([\w$]+)\s*(?:\+\s*(-?\d+))?$", text)
            if not m:
                raise NotImplementedError("operand " + text)
            kind, value = self._symbol(f, m[1], scopes)
            value += int(m[2] or 0)
            if kind == "lane":
                o.kind, o.imm = 4, value
            else:
                o.kind, o.imm = 2, self._const(value)
        return o

    def _address(self, f, text, scopes):
        inside = text.strip()[1:-1].strip()
        m = re.match(r"([%\w$.]+)\s*(?:\+\s*(-?(?:0x)?[0-9a-fA-F]+))?$", inside)
        if not m:
            raise NotImplementedError("address " + text)
        return self._operand(f, m[1], scopes), int(m[2] or "0", 0)

    def _emit(self, f, op, line):
        i = Insn()
        i.op, i.guard, i.vec, i.line, i.target = OP[op], -1, 1, line, -1
        self.code.append(i)
        return i

    @staticmethod
    def _split(text):
        out, depth, now = [], 0, ""
        for c in text:
            if c in "{[(":
                depth += 1
            if c in "}])":
                depth -= 1
            if c == "," and depth == 0:
                out.append(now.strip())
                now = ""
            else:
                now += c
        if now.strip():
            out.append(now.strip())
        return out

    def _statement(self, f, stmt, scopes, line, pending):
        stmt = " ".join(stmt.split())
        if stmt.startswith(".reg"):
            m = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", stmt)
            for part in m[2].split(","):
                part = part.strip()
                q = re.match(r"([%\w$]+)<(\d+)>$", part)
                for name in [f"{q[1]}{k}" for k in range(int(q[2]))] if q else [part]:
                    if f.entry:
                        scopes[-1][name] = self.entry_regs
                        self.entry_regs += 1
                    else:
                        scopes[-1][name] = FUNC_REGS + self.func_regs
                        self.func_regs += 1
            return
        if stmt.startswith(".param"):
            q = re.match(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?$", stmt)
            size = size_of(q[2]) * int(q[4] or 1)
            scopes[-1][q[3]] = ("lane", self._lane_slot(size))
            return
        if stmt.startswith(".pragma") or not stmt:
            return
        if stmt.startswith("."):
            return self._variable(stmt, f)
        guard = re.match(r"@(!?)(%?[\w$]+)\s+", stmt)
        if guard:
            stmt = stmt[guard.end() :]
        m = re.match(r"([a-z][\w.:]*)\s*(.*)$", stmt)
        full, rest = m[1], m[2]
        parts = full.split(".")
        base, mods = parts[0], parts[1:]
        self.op_counts[full] = self.op_counts.get(full, 0) + 1
        if base == "bar" and mods[0] == "warp":
            base, mods = "barwarp", []
        i = self._emit(f, base if base in OP else self._unknown(full), line)
        if guard:
            i.guard, i.gneg = self._reg(f, guard[2], scopes), bool(guard[1])
        ops = self._split(rest)
        types = [p for p in mods if p in TY]
        other = [p for p in mods if p not in TY]
        if types:
            i.ty = TY[types[0]]
        if len(types) > 1:
            i.ty2 = TY[types[1]]
        flags, left = 0, []
        simple = {"ftz": "FTZ", "sat": "SAT", "approx": "APPROX", "full": "FULL", "hi": "HI", "lo": "LO", "wide": "WIDE",
                  "NaN": "NANF", "uni": "UNI"}
        for p in other:
            if base in ("setp", "set") and p in CMP:
                i.cmp = CMP[p]
            elif base in ("setp", "set") and p in BOOL:
                i.boolop = BOOL[p]
            elif p in simple:
                flags |= FLAGS[simple[p]]
            elif p in ROUND:
                i.round = ROUND[p]
            else:
                left.append(p)
        i.flags = flags
        getattr(self, "_op_" + base, self._op_plain)(f, i, ops, left, scopes, pending, types)

    def _unknown(self, full):
        raise NotImplementedError("instruction " + full)

    def _no(self, i, left):
        if left:
            raise NotImplementedError(f"modifiers {left} of {OPS[i.op]} at line {i.line}")

    def _dests(self, f, i, text, scopes):
        text = text.strip()
        parts = self._split(text[1:-1]) if text.startswith("{") else text.split("|")
        i.nd = len(parts)
        for k, p in enumerate(parts):
            i.d[k] = self._operand(f, p, scopes)
            assert i.d[k].kind in (0, 1), text

    def _sources(self, f, i, texts, scopes):
        i.ns = len(texts)
        for k, p in enumerate(texts):
            i.s[k] = self._operand(f, p, scopes)

    def _op_plain(self, f, i, ops, left, scopes, pending, types):
        self._no(i, left)
        plain = "add sub mul mad fma div rem min max abs neg and or xor not cnot shl shr setp set selp slct ex2 lg2 rcp sqrt rsqrt sin cos tanh copysign lop3 bfe bfi bfind popc clz brev sad cvt mov prmt activemask trap exit ret nop"
        if OPS[i.op] not in plain.split():
            raise NotImplementedError(OPS[i.op])
        if OPS[i.op] in ("ret", "exit", "trap", "nop"):
            return
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)
        want = {"add": 2, "sub": 2, "mul": 2, "mad": 3, "fma": 3, "div": 2, "rem": 2, "abs": 1, "neg": 1, "not": 1, "and": 2, "or": 2, "xor": 2, "shl": 2, "shr": 2, "ex2": 1, "lg2": 1, "rcp": 1, "sqrt": 1, "rsqrt": 1, "selp": 3, "lop3": 4, "prmt": 3, "bfe": 3, "bfi": 4, "popc": 1, "clz": 1, "brev": 1}.get(OPS[i.op])
        if OPS[i.op] in ("min", "max") and not (i.ns == 2 or i.ns == 3 and types[0] == "f32"):
            raise NotImplementedError(f"{OPS[i.op]} with {i.ns} operands")
        if want is not None and i.ns != want:
            raise NotImplementedError(f"{OPS[i.op]} with {i.ns} operands at line {i.line}")
        if OPS[i.op] == "cvt" and len(types) != 2:
            raise NotImplementedError("cvt of one type")
        if OPS[i.op] in ("popc", "clz", "bfind", "brev") and False:
            pass

    def _op_mov(self, f, i, ops, left, scopes, pending, types):
        self._no(i, left)
        self._dests(f, i, ops[0], scopes)
        src = ops[1].strip()
        self._sources(f, i, self._split(src[1:-1]) if src.startswith("{") else [src], scopes)

    def _op_cvta(self, f, i, ops, left, scopes, pending, types):
        for p in left:
            if p == "to":
                i.flags |= FLAGS["TOSPACE"]
            elif p in SPACES:
                i.space = SPACES[p]
            else:
                self._no(i, [p])
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_ld(self, f, i, ops, left, scopes, pending, types):
        self._memory(i, left)
        self._dests(f, i, ops[0], scopes)
        i.s[0], i.off = self._address(f, ops[1], scopes)
        i.ns = 1
        assert i.nd == i.vec, ops

    def _op_st(self, f, i, ops, left, scopes, pending, types):
        self._memory(i, left)
        i.s[0], i.off = self._address(f, ops[0], scopes)
        v = ops[1].strip()
        v = self._split(v[1:-1]) if v.startswith("{") else [v]
        assert len(v) == i.vec
        for k, p in enumerate(v):
            i.s[1 + k] = self._operand(f, p, scopes)
        i.ns = 1 + len(v)

    def _memory(self, i, left):
        for p in left:
            if p in SPACES:
                i.space = SPACES[p]
            elif p in ("v2", "v4", "v8"):
                i.vec = int(p[1])
            elif p == "nc":
                i.flags |= FLAGS["NC"]
            elif p in ("cg", "ca", "cs", "cv", "wb", "wt", "lu", "weak", "L1::evict_last", "L1::evict_first", "L1::no_allocate", "evict_first"):
                if p == "cg":
                    i.flags |= FLAGS["CG"]
            elif p == "volatile":
                i.flags |= FLAGS["VOLATILE"]
            else:
                self._no(i, [p])
        if i.space == 5:
            i.space = 1

    def _op_atom(self, f, i, ops, left, scopes, pending, types):
        for p in left:
            if p in SPACES:
                i.space = SPACES[p]
            elif p in ATOM:
                i.atom = ATOM[p]
            elif p == "acq_rel":
                i.flags |= FLAGS["ACQUIRE"] | FLAGS["RELEASE"]
            elif p == "acquire":
                i.flags |= FLAGS["ACQUIRE"]
            elif p == "release":
                i.flags |= FLAGS["RELEASE"]
            elif p in ("relaxed", "gpu", "sys"):
                pass
            else:
                self._no(i, [p])
        if OPS[i.op] == "atom":
            self._dests(f, i, ops[0], scopes)
            ops = ops[1:]
        i.s[0], i.off = self._address(f, ops[0], scopes)
        for k, p in enumerate(ops[1:]):
            i.s[1 + k] = self._operand(f, p, scopes)
        i.ns = len(ops)

    _op_red = _op_atom

    def _op_fence(self, f, i, ops, left, scopes, pending, types):
        for p in left:
            if p in ("gl", "gpu", "sys"):
                i.aux = 1
            elif p not in ("acq_rel", "sc", "cta"):
                self._no(i, [p])

    _op_membar = _op_fence

    def _op_bra(self, f, i, ops, left, scopes, pending, types):
        self._no(i, left)
        pending.append((i, ops[0]))

    def _op_bar(self, f, i, ops, left, scopes, pending, types):
        if [p for p in left if p not in ("sync", "aligned", "cta")]:
            self._no(i, left)
        self._sources(f, i, ops, scopes)

    _op_barrier = _op_bar

    def _op_barwarp(self, f, i, ops, left, scopes, pending, types):
        self._sources(f, i, ops, scopes)

    def _op_shfl(self, f, i, ops, left, scopes, pending, types):
        assert left[0] == "sync"
        i.aux = {"up": 0, "down": 1, "bfly": 2, "idx": 3}[left[1]]
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_vote(self, f, i, ops, left, scopes, pending, types):
        assert left[0] == "sync"
        i.aux = {"all": 0, "any": 1, "ballot": 3}.get(left[1], 2)
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_ldmatrix(self, f, i, ops, left, scopes, pending, types):
        for p in left:
            if p in ("x1", "x2", "x4"):
                i.vec = int(p[1])
            elif p == "trans":
                i.aux |= 1
            elif p not in ("sync", "aligned", "m8n8", "shared", "shared::cta"):
                self._no(i, [p])
        i.space = 2
        if OPS[i.op] == "ldmatrix":
            self._dests(f, i, ops[0], scopes)
            i.s[0], i.off = self._address(f, ops[1], scopes)
            i.ns = 1
            assert i.nd == i.vec
        else:
            i.s[0], i.off = self._address(f, ops[0], scopes)
            v = self._split(ops[1].strip()[1:-1])
            assert len(v) == i.vec
            for k, p in enumerate(v):
                i.s[1 + k] = self._operand(f, p, scopes)
            i.ns = 1 + len(v)

    _op_stmatrix = _op_ldmatrix

    def _op_redux(self, f, i, ops, left, scopes, pending, types):
        i.atom = ATOM[[p for p in left if p in ATOM][0]]
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_shf(self, f, i, ops, left, scopes, pending, types):
        i.aux = 0 if "l" in left else 1
        i.flags |= FLAGS["WRAP"] if "wrap" in left else 0
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_testp(self, f, i, ops, left, scopes, pending, types):
        i.aux = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"].index(left[0])
        self._dests(f, i, ops[0], scopes)
        self._sources(f, i, ops[1:], scopes)

    def _op_call(self, f, i, ops, left, scopes, pending, types):
        self._no(i, left)
        inside = lambda o: [p.strip() for p in o.strip()[1:-1].split(",") if p.strip()]  # noqa: E731
        rets = inside(ops.pop(0)) if ops[0].startswith("(") else []
        name = ops.pop(0)
        args = inside(ops.pop(0)) if ops else []
        g = self.functions[name]
        place = lambda p: self._symbol(f, p, scopes)[1]  # noqa: E731
        begin = len(self.args)
        assert len(args) == len(g.params) and len(rets) == len(g.rets), name
        self.args += [Arg(place(a), at, size) for a, (_, at, size) in zip(args, g.params)]
        middle = len(self.args)
        self.args += [Arg(at, place(r), size) for r, (_, at, size) in zip(rets, g.rets)]
        i.aux = len(self.calls)
        self.calls.append(Call(begin, middle, middle, len(self.args)))
        self.fixups.append((i, name, "call"))

    # ------------------------------------------------------------ running
    def launch(self, name, grid, threads, params, shared=0, seed=0, resident=4, order=0, policy=0, diverge=0, race=1,
               budget=2_000_000_000, ulp=0):
        f = self.functions[name]
        assert f.entry
        if len(params) != f.param_bytes:
            raise SimError(f"{name} has {f.param_bytes} bytes of parameters, given are {len(params)}")
        bound = f.reqntid or f.maxntid
        if bound:
            total = 1
            for v in bound:
                total *= v
            if (f.reqntid and threads != total) or threads > total:
                raise SimError(f"{threads} threads against a bound of {bound}")
        used = [self.shared_symbols[n] for n in f.__dict__.get("uses_shared", ())]
        assert len(used) < 2, used
        own = shared if used and used[0][0] == "dynamic" else used[0][2] if used else 0
        if used and used[0][0] == "static" and own > 48 * 1024:
            raise SimError(f"{own} bytes of static shared memory")
        c = Config()
        grid = (*grid, 1, 1)[:3]
        if not (0 < grid[0] < 2**31 and 0 < grid[1] < 65536 and 0 < grid[2] < 65536):
            raise SimError(f"grid {grid}")
        c.grid[:], c.block[:] = grid, (threads, 1, 1)
        c.shared_bytes = own
        c.entry, c.seed, c.resident, c.order, c.policy, c.diverge = f.pc, seed, resident, order, policy, diverge
        c.race, c.init, c.budget, c.ulp = race, 1, budget, ulp
        error = core.sim_launch(self.handle, ctypes.byref(c), bytes(params), len(params)).decode()
        reports = [line.split("\t", 3) for line in core.sim_reports().decode().splitlines()]
        return error, [(k, int(at), int(n), text) for k, at, n, text in reports]

    def hits(self):
        out = (ctypes.c_uint64 * self.n)()
        core.sim_hits(self.handle, out)
        return list(out)


class Memory:
    """What kernels may touch. Regions are host memory; those of a tensor are its elements and no gap between them."""

    def raw(self, address, size, name, init, readonly=False, shadow=True):
        self.known.pop(address, None)
        core.region_add(address, size, name.encode(), 1 | 2 * init | 4 * readonly, int(shadow))

    def remove(self, address):
        core.region_remove(address)

    def clear(self, modules=()):
        core.regions_clear()
        self.known.clear()
        for m in Module.cache.values():
            for n, (base, size) in m.globals.items():
                core.region_add(base, size, n.encode(), 3, 1)

    def state(self, address, size):
        out = (ctypes.c_uint8 * size)()
        return bytes(out) if core.region_state(address, size, out) else None

    known = {}  # storages of inputs, of which views may overlap: {address: bytes}

    def tensor(self, t, name, init, readonly=False, shadow=True):
        """Its elements become addressable, in the region of its storage."""
        if t.numel() == 0:
            return
        s, item = t.untyped_storage(), t.element_size()
        base, size = s.data_ptr(), s.nbytes()
        flag = 1 | 2 * init | 4 * readonly
        if self.known.get(base) != size or self.state(base, 1) is None:
            core.region_add(base, size, name.encode(), 0, int(shadow))
            self.known[base] = size
        span = sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride())) + 1
        if span == t.numel():
            core.region_mark(t.data_ptr(), span * item, flag, 4 * (not readonly))
            return
        import torch

        mark = torch.zeros(span, dtype=torch.bool)
        torch.as_strided(mark, t.shape, t.stride()).fill_(True)
        edges = torch.nonzero(mark[1:] != mark[:-1]).flatten().add(1).tolist()
        for a, b in zip([0, *edges], [*edges, span]):
            if mark[a]:
                core.region_mark(t.data_ptr() + a * item, (b - a) * item, flag, 4 * (not readonly))


def op_totals():
    out = (ctypes.c_uint64 * len(OPS))()
    core.op_counts(out)
    return {n: v for n, v in zip(OPS, out) if v}


def totals():
    out = (ctypes.c_uint64 * 2)()
    core.sim_totals(out)
    return {"thread_instructions": out[0], "warp_instructions": out[1]}
