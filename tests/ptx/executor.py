"""The library that sim/ becomes, for Python: its structures, its functions and its counts."""

import ctypes

from . import targets
from .tables import OPS

_INSN = "op ty ty2 guard gneg flags round cmp boolop space vec atom nd ns target line func aux"
_CALL = "args_begin args_end rets_begin rets_end"
ADDRESSABLE, WRITTEN, READ_ONLY = 1, 2, 4  # the state of a byte
_int, _long, _text = ctypes.c_int32, ctypes.c_uint64, ctypes.c_char_p


class Operand(ctypes.Structure):
    """kind: 0 none, 1 register, 2 constant, 3 negated register, 4 an address among a lane's parameters."""

    _fields_ = [("kind", _int), ("reg", _int), ("imm", _long)]


class Insn(ctypes.Structure):
    """An instruction. d: where the results go, s: the sources."""

    _fields_ = [(n, _int) for n in _INSN.split()] + [("off", ctypes.c_int64), ("d", Operand * 8), ("s", Operand * 10)]


class Arg(ctypes.Structure):
    """A parameter of a call: copied from one place among a lane's parameters to another."""

    _fields_ = [("from_", _int), ("to", _int), ("size", _int)]


class Call(ctypes.Structure):
    _fields_ = [(n, _int) for n in _CALL.split()]


class Config(ctypes.Structure):
    """A launch. resident: how many blocks run at a time. order: of the blocks, 0 as they come, 1 the last first, 2
    random. policy: of the warps, 0 one after another, 1 and 2 random, with long and with short turns. diverge: threads
    of a warp go on one after another. ulp: the error of approximate instructions. budget: of instructions."""

    _fields_ = [
        ("grid", ctypes.c_uint32 * 3), ("block", ctypes.c_uint32 * 3), ("shared_bytes", ctypes.c_uint32),
        ("entry", _int), ("seed", _long), ("resident", _int), ("order", _int), ("policy", _int), ("diverge", _int),
        ("budget", ctypes.c_int64), ("ulp", _int),
    ]  # fmt: skip


def _library():
    c = ctypes.CDLL(str(targets.executor()))
    c.sim_new.restype = ctypes.c_void_p
    c.sim_launch.restype = c.sim_reports.restype = _text
    c.region_add.argtypes = [_long, _long, _text, _int]
    c.region_mark.argtypes = [_long, _long, _int, _int]
    c.region_known.argtypes = [_long]
    c.sim_launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, _text, ctypes.c_int64]
    c.sim_hits.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert c.insn_size() == ctypes.sizeof(Insn), (c.insn_size(), ctypes.sizeof(Insn))
    return c


core = _library()


def op_totals():
    """{instruction: how often a warp ran it}, of the whole process."""
    out = (_long * len(OPS))()
    core.op_counts(out)
    return {n: v for n, v in zip(OPS, out, strict=False) if v}


def totals():
    out = (_long * 2)()
    core.sim_totals(out)
    return {"thread_instructions": out[0], "warp_instructions": out[1]}
