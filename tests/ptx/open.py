"""The machine of a backend, and the name under which the product calls it."""


def open_machine(backend):
    """(machine, "cpu" or "triton"). One backend in a process: the product's own backend is replaced."""
    if backend == "cuda":
        from .cuda import Cuda

        machine, name = Cuda(), "cpu"
    else:
        from .triton import Triton

        machine, name = Triton(), "triton"
    machine.attach()
    machine.forget()
    return machine, name
