"""An example and the parts of losses, for the tests of vk.audit."""

import torch
import torch.nn.functional as F

G = torch.Generator().manual_seed(0)
B, L = 16, 20
CHANNELS, HEIGHT, WIDTH = 3, 6, 10
D = CHANNELS * HEIGHT * WIDTH
Z, ROWS, COLUMNS = 4, 6, 11


def normal(*shape):
    return torch.randn(*shape, generator=G)


X = torch.rand(B, CHANNELS, HEIGHT, WIDTH, generator=G).round()
RECON = normal(B, CHANNELS, HEIGHT, WIDTH)
MU, LOGVAR = normal(B, L), 0.5 * normal(B, L)
EXAMPLE = RECON, X, MU, LOGVAR
MAP = RECON, X, normal(B, Z, ROWS, COLUMNS), normal(B, Z, ROWS, COLUMNS)


def rec(r, x, how="sum"):
    return F.binary_cross_entropy_with_logits(r, x, reduction=how)


def kl(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v)


def text(audit, *levels):
    return " / ".join(sentence for at, sentence in audit.findings if at in (levels or ("wrong", "note", "fine")))


def of_kl(f):
    """A sound reconstruction beside f(mu, logvar)."""
    return lambda r, x, m, v: rec(r, x) / len(x) + f(m, v)


SOUND = of_kl(lambda m, v: kl(m, v).sum() / len(m))
