"""What all backends share.

objective.py  the request that functional.py makes and that every backend takes
checks.py     bad input is an error here
parameters.py the same for the parameters of any likelihood but a table
weights.py    the same for weight and latent_weight
ranges.py     checks of Python numbers and shapes
targets.py    checks of x and of networks, where a model takes them
calls.py      calls of the user's networks, with errors that name the argument
gaussians.py  diagonal Gaussians that a network gives
layout.py     tensors in the layouts that the kernels read
laid_out.py   the tensors of a request, checked and laid out
draws.py      n_samples=: K draws of z for each x
noise.py      the noise, as a function of seed, offset and element
control.py    numbers that change while a model trains: the base of vae_kernels/controls
terms.py      ElboTerms
penalty.py    free bits and a capacity: functions of the KL
pairs.py      FreeBits and Shard
dtensor.py    batches that are shared out over ranks
modes.py      a model's training flags
later.py      what the package imports when it is first used
moved.py      the module paths of version 0.1
"""
