"""A module of PTX, and its kernels' launches.

    module = Module(text)
    error, reports = module.launch("kernel", (2, 1, 1), 128, parameters, **schedule)

A launch runs on the memory of this process, of which Memory says what a kernel may touch.
"""

import ctypes
import math
from typing import ClassVar

from .executor import ADDRESSABLE, WRITTEN, Arg, Call, Config, Insn, core
from .parser import Parser

STATIC_SHARED = 48 * 1024  # the most that a GPU gives without being asked


class SimError(Exception):
    """A launch that no GPU would take, or that could not go on."""


class Module:
    """The same text is the same module. functions: {name: Function}; code: its instructions."""

    cache: ClassVar = {}

    def __new__(cls, text):
        if text not in cls.cache:
            cls.cache[text] = super().__new__(cls)
            cls.cache[text]._load(text)
        return cls.cache[text]

    def _load(self, text):
        self.text = text
        p = self._parsed = Parser(text)
        self.code, self.functions = p.code, p.functions
        array = lambda of, values: ((of * max(1, len(values)))(*values), ctypes.c_int64(len(values)))  # noqa: E731
        tables = (*array(Insn, p.code), *array(Arg, p.args), *array(Call, p.calls))
        sizes = ctypes.c_int32(p.registers), ctypes.c_uint32(p.lane_bytes), ctypes.c_uint32(p.local_bytes)
        self._handle = ctypes.c_void_p(core.sim_new(*tables, *array(ctypes.c_uint64, p.constants), *sizes))
        self.give_globals()

    def give_globals(self):
        """Kernels may touch the variables of the module."""
        for name, (base, size) in self._parsed.globals.items():
            core.region_add(base, size, name.encode(), ADDRESSABLE | WRITTEN)

    def launch(
        self, name, grid, threads, params, shared=0, seed=0, resident=4, order=0, policy=0, diverge=0,
        budget=2_000_000_000, ulp=0,
    ):  # fmt: skip
        """(why it could not go on, or an empty text; [(kind, line of PTX, how often, text)]).

        params: the bytes of the parameters. shared: the bytes of dynamic shared memory. The rest: executor.Config."""
        f, grid = self.functions[name], (*grid, 1, 1)[:3]
        self._check(f, grid, threads, params)
        c = Config()
        c.grid[:], c.block[:] = grid, (threads, 1, 1)
        c.entry, c.shared_bytes = f.pc, self._shared_bytes(f, shared)
        c.seed, c.resident, c.order, c.policy, c.diverge = seed, resident, order, policy, diverge
        c.budget, c.ulp = budget, ulp
        error = core.sim_launch(self._handle, ctypes.byref(c), bytes(params), len(params)).decode()
        reports = [line.split("\t", 3) for line in core.sim_reports().decode().splitlines()]
        return error, [(kind, int(line), int(count), text) for kind, line, count, text in reports]

    def hits(self):
        """How often a warp ran each instruction."""
        out = (ctypes.c_uint64 * len(self.code))()
        core.sim_hits(self._handle, out)
        return list(out)

    def _check(self, f, grid, threads, params):
        if len(params) != f.param_bytes:
            raise SimError(f"{f.name} has {f.param_bytes} bytes of parameters, given are {len(params)}")
        bound = f.reqntid or f.maxntid
        if bound and (threads > math.prod(bound) or (f.reqntid and threads != math.prod(bound))):
            raise SimError(f"{threads} threads against a bound of {bound}")
        if not (0 < grid[0] < 2**31 and 0 < grid[1] < 65536 and 0 < grid[2] < 65536):
            raise SimError(f"grid {grid}")

    def _shared_bytes(self, f, dynamic):
        used = [self._parsed.shared[name] for name in f.shared]
        assert len(used) < 2, used
        if not used:
            return 0
        if used[0] is None:
            return dynamic
        if used[0] > STATIC_SHARED:
            raise SimError(f"{used[0]} bytes of static shared memory")
        return used[0]
