"""What kernels may touch: regions of host memory, of which each byte has a state."""

import itertools

import torch

from .executor import ADDRESSABLE, READ_ONLY, WRITTEN, core
from .module import Module


class Memory:
    """The regions. A tensor's are its elements, and no gap between them."""

    def __init__(self):
        self._storages = {}  # of inputs, of which several views may be given: {address: bytes}

    def raw(self, address, size, name, init, readonly=False):
        """Bytes that a kernel may read and, unless `readonly`, write to. init: they have a value."""
        self._storages.pop(address, None)
        core.region_add(address, size, name.encode(), ADDRESSABLE | WRITTEN * init | READ_ONLY * readonly)

    def clear(self):
        """Nothing is left but the variables of modules."""
        core.regions_clear()
        self._storages.clear()
        for module in Module.cache.values():
            module.give_globals()

    def knows(self, address):
        return bool(core.region_known(address))

    def tensor(self, t, name, readonly=False):
        """Its elements, which have values, become addressable, in the region of its storage."""
        storage, item = t.untyped_storage(), t.element_size()
        base, size = storage.data_ptr(), storage.nbytes()
        if self._storages.get(base) != size or not self.knows(base):
            core.region_add(base, size, name.encode(), 0)
            self._storages[base] = size
        put = ADDRESSABLE | WRITTEN | READ_ONLY * readonly
        clear = 0 if readonly else READ_ONLY
        for begin, end in parts(t):
            core.region_mark(t.data_ptr() + begin * item, (end - begin) * item, put, clear)


def parts(t):
    """(begin, end) of the stretches of memory that the elements of a tensor fill, in elements from the first one."""
    span = sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride(), strict=True)) + 1
    if span == t.numel():
        return [(0, span)]
    mark = torch.zeros(span, dtype=torch.bool)
    torch.as_strided(mark, t.shape, t.stride()).fill_(True)
    edges = [0, *torch.nonzero(mark[1:] != mark[:-1]).flatten().add(1).tolist(), span]
    return [(a, b) for a, b in itertools.pairwise(edges) if mark[a]]
