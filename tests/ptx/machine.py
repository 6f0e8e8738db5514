"""What both backends need of the simulator: schedules, the memory that a kernel may touch, and a record of findings."""

import collections
import ctypes
import json
import os
import random

import torch

from .executor import op_totals, totals
from .memory import Memory
from .module import Module
from .work import work

SEED = int(os.environ.get("SIM_SEED", "0"))
PLAIN = os.environ.get("SIM_MODE") == "plain"
ULP = int(os.environ.get("SIM_ULP", "0"))


class Machine:
    """The launches of one backend. `case` is what runs now, for whoever reads a finding."""

    def __init__(self, **about):
        self.about, self.case = about, ""
        self.memory = Memory()
        self.stats, self.findings = collections.Counter(), {}
        self._random = random.Random(SEED)
        self._fresh, self._kept = {}, []  # storages made by the backend: {address: bytes}, and what holds them alive

    def schedule(self):
        """A random order of blocks and warps for the next launch (Config in executor.py says what each means)."""
        if PLAIN:
            return {"order": 0, "policy": 0, "diverge": 0, "resident": 4, "seed": 0, "ulp": ULP}
        choice = self._random.choice
        policy = choice([0, 0, 1, 1, 2])
        return {
            "order": self._random.randrange(3), "policy": policy, "diverge": choice([0, 0, 0, 1]) if policy else 0,
            "resident": choice([1, 2, 4, 9]), "seed": self._random.randrange(1 << 30), "ulp": ULP,
        }  # fmt: skip

    def forget(self):
        """Between two cases: memory that was freed may come again as something else."""
        self.memory.clear()
        self._fresh.clear()
        self._kept.clear()

    def keep(self, *values):
        """The values live until `forget`: no other tensor comes in their place."""
        self._kept += values

    def fresh(self, address, size):
        """The backend has made a tensor here, and nobody has written to it yet."""
        self._fresh[address] = size
        self.memory.raw(address, size, "fresh", init=False)
        ctypes.memset(address, 0xFF, size)

    def freed_all_but(self, tensors):
        """Of the tensors that the backend has made, these are left. The memory of the others may come again."""
        left = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._fresh = {address: size for address, size in self._fresh.items() if address in left}

    def is_fresh(self, tensor):
        storage = tensor.untyped_storage()
        return self._fresh.get(storage.data_ptr()) == storage.nbytes()

    def give(self, value, name, readonly):
        """A kernel may read the tensor, or those of a list, and unless `readonly` write to them."""
        if isinstance(value, list | tuple):
            for each in value:
                self.give(each, name, readonly)
        elif isinstance(value, torch.Tensor) and value.numel() and not self.is_fresh(value):
            self.memory.tensor(value, name, readonly)

    def launch(self, module, kernel, grid, threads, parameters, shared=0, **details):
        """Runs the kernel, and records what is found. Gives the reason why it could not go on, or an empty text."""
        schedule = self.schedule()
        error, reports = module.launch(kernel, grid, threads, parameters, shared=shared, **schedule)
        self.stats["launches"] += 1
        self.stats["blocks"] += grid[0] * grid[1] * grid[2]
        self.stats["launches of " + kernel] += 1
        lines = module.text.splitlines()
        for kind, line, count, text in reports + ([("fatal", 0, 1, error)] if error else []):
            source = lines[line - 1].strip() if line else ""
            about = {"text": text, "line": line, "grid": grid, "schedule": schedule}
            self.found(kind, kernel, source, count, module, **about, **details)
        return error

    def found(self, kind, kernel, source="", count=1, module=None, **details):
        """Records a finding: one entry for each PTX instruction, or one for each kernel where it is an "info"."""
        key = kind, kernel, "" if kind.startswith("info") else source
        if key not in self.findings:
            self.findings[key] = {"count": 0, "case": self.case, **details}
            if module is not None and not kind.startswith("info"):
                path = work("found", f"{os.getpid()}_{len(self.findings)}.ptx")
                path.write_text(module.text)
                self.findings[key]["ptx"] = str(path)
        self.findings[key]["count"] += count

    def kinds(self):
        """The kinds of the findings so far, without what is only information."""
        return {kind for kind, _, _ in self.findings if not kind.startswith("info")}

    def coverage(self):
        """{kernel: [PTX instructions that ran, all of them]}."""
        out = {}
        for module in Module.cache.values():
            hits = module.hits()
            for name, function in module.functions.items():
                if function.pc is None:
                    continue
                part = hits[function.pc : function.end]
                ran, total = out.get(name, (0, 0))
                out[name] = [ran + sum(n > 0 for n in part), total + len(part)]
        return out

    def summary(self):
        """What a run writes as JSON."""
        findings = [{"kind": k[0], "kernel": k[1], "source": k[2], **v} for k, v in self.findings.items()]
        parts = {"stats": dict(self.stats), "findings": findings, "coverage": self.coverage()}
        return self.about | parts | {"ops": op_totals(), **totals()}

    def write(self, path, **more):
        """Writes the summary and gives it back."""
        summary = self.summary() | more
        with open(path, "w") as file:
            json.dump(summary, file, indent=1, default=str)
        return summary
