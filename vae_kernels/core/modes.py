"""A model in evaluation mode for a while, without a change of what its user has set."""

from contextlib import contextmanager


@contextmanager
def evaluating(model):
    """model.eval() inside; afterwards each submodule has the flag again that it had, also after an error.

    model.train() would not do: it sets every flag, and so unfreezes the batch norms that the user had frozen.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
