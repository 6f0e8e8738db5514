"""The host code of csrc/cuda on CPU tensors. A launch runs the PTX that nvcc makes of the kernel in the simulator."""

import ctypes
import re

import cuda_host
import torch
from torch.utils._pytree import tree_leaves

from . import targets
from .machine import Machine
from .module import Module

ON_EMPTY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
ON_LAUNCH = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Cuda(Machine):
    """`host`: the ops. `modules`: {kernel: its module}, of those that were launched. `swap`: {PTX: the PTX that runs in
    its place}, to plant a fault."""

    def __init__(self, folder=None):
        super().__init__()
        files = sorted((folder or targets.ptx()).glob("*.ptx"))
        self.sources = {name: text for file in files for name, text in entries(file.read_text())}
        self.modules, self.swap, self._results = {}, {}, []
        library = targets.host()
        self._ops = cuda_host.load(library)
        self._hooks = ON_EMPTY(self.fresh), ON_LAUNCH(self._on_launch)
        handle = ctypes.CDLL(str(library))
        handle.ptx_hooks(*self._hooks)
        handle.ptx_counter.restype = ctypes.c_void_p
        self._counter = handle.ptx_counter()
        self.host = Host(self)

    def forget(self):
        super().forget()
        self._results.clear()

    def attach(self):
        """The product's backend "cpu" calls these ops."""
        from vae_kernels import backends
        from vae_kernels.backends import compiled as ops

        backends.choice._MISSING["cpu"] = None
        for name in cuda_host.OPS:
            ops.KERNELS["compiled"][name] = getattr(self.host, name).default

    def call(self, name, *arguments):
        self.memory.raw(self._counter, 4, "ticket", init=True)
        if name in ("rescale_", "correct_", "pixel_correct_"):
            self.give(arguments[0], "input", readonly=False)
            self.give(arguments[1:], "input", readonly=True)
        else:
            self.give(arguments, "input", readonly=True)
        out = getattr(self._ops, name)(*arguments)
        self.keep(arguments, out)
        self._results += [tensor for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)]
        self.freed_all_but(self._results)
        self.stats["calls of " + name] += 1
        return out

    def set_mode(self, backwards, tickets):
        self._ops.set_mode(backwards, tickets)

    def reset_tickets(self):
        """After a launch that was cut short: between launches the counter is 0."""
        ctypes.c_uint.from_address(self._counter).value = 0

    def module(self, kernel):
        text = self.sources[kernel]
        module = self.modules[kernel] = Module(self.swap.get(text, text))
        return module

    def _on_launch(self, name, job, size, blocks):
        """Called from C++: the address of a text that says what is wrong, or None."""
        try:
            kernel = entry_of(name.decode())
            module = self.module(kernel)
            threads = (module.functions[kernel].maxntid or [256])[0]
            error = self.launch(module, kernel, (blocks, 1, 1), threads, ctypes.string_at(job, size))
        except BaseException as raised:  # it cannot go through C++
            error = f"{type(raised).__name__}: {raised}"
            self.found("python", name.decode(), error)
        if not error:
            return None
        self._error = ctypes.create_string_buffer(("ptxsim: " + error).encode())
        return ctypes.addressof(self._error)


class Host:
    """The ops as torch.ops has them, of a Cuda."""

    def __init__(self, machine):
        self._machine = machine

    def __getattr__(self, name):
        return self._machine.set_mode if name == "set_mode" else Op(self._machine, name)


class Op:
    def __init__(self, machine, name):
        self._machine, self._name = machine, name
        self.default = self

    def __call__(self, *arguments):
        return self._machine.call(self._name, *arguments)


def entries(text):
    """(kernel, the module's text), for each kernel of a module."""
    return [(name, text) for name in re.findall(r"\.entry (\w+)\(", text)]


def entry_of(struct):
    """The mangled name of kernel<K>, where `struct` is that of K."""
    assert struct.startswith("N2vk4cuda"), struct
    return f"_ZN2vk4cuda6kernelINS0_{struct.removeprefix('N2vk4cuda')}EEvNT_3JobE"
