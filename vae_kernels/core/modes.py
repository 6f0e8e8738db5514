"""A model in evaluation mode for a while; afterwards every module has the mode that its user has set."""

from contextlib import contextmanager


@contextmanager
def evaluating(model):
    """model.eval() inside the context. Afterwards each submodule has its old flag again, also after an error.

    model.train() would be wrong here: it sets every flag, and so unfreezes the batch norms that the user has frozen.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
