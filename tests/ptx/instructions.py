"""From the text of an instruction to an Insn: its modifiers and its operands. What is not known is an error."""

import re

from .executor import Arg, Call, Insn
from .operands import Operands
from .syntax import inside, listed, split
from .tables import ATOMIC, BOOLEAN, COMPARE, FLAG, MODIFIER, OP, OPS, ROUND, SPACE, TYPE, words

# {number of sources: instructions}; 0: any number, or one that is looked at elsewhere.
_SOURCES = {
    0: "min max setp set slct sin cos tanh copysign bfind sad cvt activemask",
    1: "abs neg not cnot ex2 lg2 rcp sqrt rsqrt popc clz brev",
    2: "add sub mul div rem and or xor shl shr",
    3: "mad fma selp prmt bfe",
    4: "bfi lop3",
}
_COUNT = {name: n for n, names in _SOURCES.items() for name in names.split()}
_NO_OPERANDS = ("ret", "exit", "trap", "nop")
# Caching and eviction: a simulation has no caches.
_CACHE = words("cg ca cs cv wb wt lu weak L1::evict_last L1::evict_first L1::no_allocate evict_first")
_SHUFFLE = {"up": 0, "down": 1, "bfly": 2, "idx": 3}
_TEST = words("finite infinite number notanumber normal subnormal")


class Instructions(Operands):
    """A part of the parser. An `_op_` method takes the instruction, its operands, the modifiers that have not been
    looked at, and its types."""

    def emit(self, op, line=0):
        i = Insn()
        i.op, i.guard, i.vec, i.line, i.target = OP[op], -1, 1, line, -1
        self.code.append(i)
        return i

    def instruction(self, text, line):
        guard = re.match(r"@(!?)(%?[\w$]+)\s+", text)
        full, rest = re.match(r"([a-z][\w.:]*)\s*(.*)$", text[guard.end() :] if guard else text).groups()
        base, *modifiers = full.split(".")
        if base == "bar" and modifiers[0] == "warp":
            base, modifiers = "barwarp", []
        if base not in OP:
            raise NotImplementedError("instruction " + full)
        i = self.emit(base, line)
        if guard:
            i.guard, i.gneg = self.register(guard[2]), bool(guard[1])
        types = [p for p in modifiers if p in TYPE]
        i.ty, i.ty2 = [*[TYPE[t] for t in types[:2]], 0, 0][:2]
        left = self._modifiers(i, base, [p for p in modifiers if p not in TYPE])
        getattr(self, "_op_" + base, self._op_plain)(i, split(rest), left, types)

    def _modifiers(self, i, base, modifiers):
        """Those that are not understood here."""
        left = []
        for p in modifiers:
            if base in ("setp", "set") and p in COMPARE:
                i.cmp = COMPARE[p]
            elif base in ("setp", "set") and p in BOOLEAN:
                i.boolop = BOOLEAN[p]
            elif p in MODIFIER:
                i.flags |= FLAG[MODIFIER[p]]
            elif p in ROUND:
                i.round = ROUND[p]
            else:
                left.append(p)
        return left

    def _none(self, i, left):
        if left:
            raise NotImplementedError(f"modifiers {left} of {OPS[i.op]} at line {i.line}")

    def _op_plain(self, i, ops, left, types):
        self._none(i, left)
        name = OPS[i.op]
        if name in _NO_OPERANDS:
            return
        if name not in _COUNT:
            raise NotImplementedError(name)
        self._result(i, ops, left, types)
        wanted = _COUNT[name] or i.ns
        if i.ns != wanted or (name in ("min", "max") and i.ns != 2 and not (i.ns == 3 and types[0] == "f32")):
            raise NotImplementedError(f"{name} with {i.ns} operands at line {i.line}")
        if name == "cvt" and len(types) != 2:
            raise NotImplementedError("cvt of one type")

    def _result(self, i, ops, left, types):
        """What most instructions have: a destination, then sources."""
        self.destinations(i, ops[0])
        self.sources(i, ops[1:])

    def _op_mov(self, i, ops, left, types):
        self._none(i, left)
        self.destinations(i, ops[0])
        self.sources(i, listed(ops[1]))

    def _op_cvta(self, i, ops, left, types):
        for p in left:
            if p == "to":
                i.flags |= FLAG["TOSPACE"]
            elif p in SPACE:
                i.space = SPACE[p]
            else:
                self._none(i, [p])
        self._result(i, ops, left, types)

    def _op_ld(self, i, ops, left, types):
        self._memory(i, left)
        self.destinations(i, ops[0])
        self.address(i, ops[1])
        assert i.nd == i.vec, ops

    def _op_st(self, i, ops, left, types):
        self._memory(i, left)
        self.address(i, ops[0])
        self.sources(i, listed(ops[1]))
        assert i.ns == 1 + i.vec, ops

    def _memory(self, i, left):
        for p in left:
            if p in SPACE:
                i.space = SPACE[p]
            elif p in ("v2", "v4", "v8"):
                i.vec = int(p[1])
            elif p == "nc":
                i.flags |= FLAG["NC"]
            elif p == "volatile":
                i.flags |= FLAG["VOLATILE"]
            elif p not in _CACHE:
                self._none(i, [p])
        if i.space == SPACE["const"]:
            i.space = SPACE["global"]

    def _op_atom(self, i, ops, left, types):
        for p in left:
            if p in SPACE:
                i.space = SPACE[p]
            elif p in ATOMIC:
                i.atom = ATOMIC[p]
            elif p in ("acq_rel", "acquire", "release"):
                i.flags |= FLAG["ACQUIRE"] * (p != "release") | FLAG["RELEASE"] * (p != "acquire")
            elif p not in ("relaxed", "gpu", "sys"):
                self._none(i, [p])
        if OPS[i.op] == "atom":
            self.destinations(i, ops.pop(0))
        self.address(i, ops[0])
        self.sources(i, ops[1:])

    _op_red = _op_atom

    def _op_fence(self, i, ops, left, types):
        for p in left:
            if p in ("gl", "gpu", "sys"):
                i.aux = 1
            elif p not in ("acq_rel", "sc", "cta"):
                self._none(i, [p])

    _op_membar = _op_fence

    def _op_bra(self, i, ops, left, types):
        self._none(i, left)
        self.f.branches.append((i, ops[0]))

    def _op_bar(self, i, ops, left, types):
        self._none(i, [p for p in left if p not in ("sync", "aligned", "cta")])
        self.sources(i, ops)

    _op_barrier = _op_bar

    def _op_barwarp(self, i, ops, left, types):
        self.sources(i, ops)

    def _op_shfl(self, i, ops, left, types):
        assert left[0] == "sync"
        i.aux = _SHUFFLE[left[1]]
        self._result(i, ops, left, types)

    def _op_vote(self, i, ops, left, types):
        assert left[0] == "sync"
        i.aux = {"all": 0, "any": 1, "ballot": 3}.get(left[1], 2)
        self._result(i, ops, left, types)

    def _op_ldmatrix(self, i, ops, left, types):
        for p in left:
            if p in ("x1", "x2", "x4"):
                i.vec = int(p[1])
            elif p == "trans":
                i.aux |= 1
            elif p not in ("sync", "aligned", "m8n8", "shared", "shared::cta"):
                self._none(i, [p])
        i.space = SPACE["shared"]
        if OPS[i.op] == "ldmatrix":
            self.destinations(i, ops[0])
            self.address(i, ops[1])
            assert i.nd == i.vec
        else:
            self.address(i, ops[0])
            self.sources(i, inside(ops[1]))
            assert i.ns == 1 + i.vec

    _op_stmatrix = _op_ldmatrix

    def _op_redux(self, i, ops, left, types):
        i.atom = ATOMIC[next(p for p in left if p in ATOMIC)]
        self._result(i, ops, left, types)

    def _op_shf(self, i, ops, left, types):
        i.aux = 0 if "l" in left else 1
        i.flags |= FLAG["WRAP"] if "wrap" in left else 0
        self._result(i, ops, left, types)

    def _op_testp(self, i, ops, left, types):
        i.aux = _TEST.index(left[0])
        self._result(i, ops, left, types)

    def _op_call(self, i, ops, left, types):
        self._none(i, left)
        rets = inside(ops.pop(0)) if ops[0].startswith("(") else []
        name = ops.pop(0)
        args = inside(ops.pop(0)) if ops else []
        g = self.functions[name]
        assert len(args) == len(g.params) and len(rets) == len(g.rets), name
        place = lambda p: self.symbol(p)[1]  # noqa: E731
        begin = len(self.args)
        self.args += [Arg(place(a), at, size) for a, (_, at, size) in zip(args, g.params, strict=True)]
        middle = len(self.args)
        self.args += [Arg(at, place(r), size) for r, (_, at, size) in zip(rets, g.rets, strict=True)]
        i.aux = len(self.calls)
        self.calls.append(Call(begin, middle, middle, len(self.args)))
        self.called.append((i, name))
