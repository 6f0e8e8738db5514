"""Times this library, eager PyTorch and torch.compile: `vae-kernels bench`. The library imports this folder
only for the times of vk.audit(step=).

case.py        a case: what is timed, and its tensors
rivals.py      the objective as other code writes it
helpers.py     free bits and the decomposition of the KL, by hand and ours
contenders.py  all contenders of a case: rivals, compiled rivals, this library
check.py       checks a contender against float64; a wrong contender is not timed
clock.py       times functions in turns, on a CPU and on a GPU
counts.py      operations and memory
measure.py     a case -> rows, with the columns of results.py
steps.py       the same for whole training steps, of clients.py
clients.py     the clients: models as people train them; networks.py has their networks
ways.py        the loss of a client by hand, and by this library
columns.py     the loss of a table with mixed columns, as a loop over columns
pixels.py      the loss of mixtures of discretized logistics, by hand
masks.py       the likelihood with a weight for each element
suites.py      the cases of the published results
table.py       the rows of a case as text
gpu.py         the check of a GPU
"""
