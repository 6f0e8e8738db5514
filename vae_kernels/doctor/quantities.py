"""The name, the value and the unit of each quantity: cards, table, figures and terminal take the text from here."""

import math

GREY = (
    "neither 0 nor 1: under bernoulli, -ELBO and log p(x) are then those of a cross entropy, which is no "
    "log-likelihood; continuous_bernoulli is a density of grey values"
)
NEAR = 3.0  # nats: so near to its limit log N, the estimate of I(x; z) falls short by more than its standard error


def at_limit(m):
    """Whether the estimate of I(x; z) is so near to its limit, the logarithm of the samples, that it is only a bound.

    Gaussian channels of 1 to 20 dims, whose I(x; z) is known, show how far the estimate falls short: 0.1 to 0.2 nats at
    the distance NEAR from the limit, and 2 nats or more at a distance of 0.3. With few samples the limit is below
    2 NEAR: there the upper half counts as near.
    """
    limit = math.log(m.samples)
    return m.information > max(limit - NEAR, limit / 2)


def information(m):
    """I(x; z) with its error, or as the bound that it is."""
    if not at_limit(m):
        return f"{round(m.information, 2) + 0.0:.2f} +- {m.error:.2f} nats"  # + 0.0: without the sign of -0.0
    limit = math.log(m.samples)
    if m.information > limit - 0.1:
        return f">= {m.information:.1f} nats, the limit of {m.samples} samples"
    return f">= {m.information:.1f} nats, near {limit:.1f}, the limit of {m.samples} samples"


def log_p(p):
    """log p(x) with its error over the samples, and how many draws count."""
    value, error = with_error(p.value, p.error)
    counting = f"{p.effective:.0f} of {p.draws} draws count"
    return f"{'>= ' if p.bound else ''}{value} nats ({counting}), +- {error} over {p.samples} samples"


def gap(p):
    """log p(x) - ELBO of the same samples."""
    value, error = with_error(p.gap, p.gap_error)
    return f"{'>= ' if p.bound else ''}{value} +- {error} nats"


def with_error(value, error):
    """Both as text, with so many decimals that the error has two digits that count; at most two decimals."""
    decimals = 2 if error < 0.995 else 1 if error < 9.95 else 0
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def minus_elbo(m):
    return f"{m.kl + m.nll:.2f} +- {m.elbo_error:.2f} nats"


def rate(m):
    return f"{m.kl:.2f} +- {m.kl_error:.2f} nats"


def distortion(m):
    return f"{m.nll:.2f} +- {m.nll_error:.2f} nats"


def active(m):
    return f"{m.active_units} of {m.latents}"


def sigmas(squared):
    """A root mean square, of the mean square in Measures."""
    return f"{math.sqrt(squared):.2f} sigmas"


def share(value):
    """A share in percent. A share that is not 0 is not shown as 0."""
    return "under 0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def grey(value):
    """The sentence about this share of grey values; "" without them."""
    return f"{share(value)} of the values are grey, {GREY}" if value else ""


def plain(text):
    """The text of a page: the terminal has +-, a page has ±."""
    return text.replace("+-", "±")


def ratio(value):
    return f"{value:.3g}"


def table(m):
    """(name, value, explanation) of each quantity that was measured."""
    p = m.log_p
    rows = [
        ("observed", share, m.observed, "of the elements of x, which the distortion and log p(x) are of"),
        ("grey", share, m.grey or None, f"of the values are {GREY}"),
        ("-ELBO", minus_elbo, m, "rate and distortion together; each mean has its standard error over the samples"),
        ("rate", rate, m, "KL of the posterior to the prior"),
        ("distortion", distortion, m, "-log p(x|z)"),
        ("I(x; z)", information, m, "mutual information under q; an estimate from N samples is at most log N"),
        ("log p(x)", log_p, p, "by importance sampling; >= where few draws count: more draws would give more"),
        ("log p(x) - ELBO", gap, p, p and f"of the same {p.samples} samples"),
        ("active units", active, m, "latents whose posterior mean varies by more than 0.01 of the prior's variance"),
        ("moments", "{:.2f} nats".format, m.aggregate_kl, "KL of the aggregate posterior's Gaussian to the prior's"),
        ("rare codes", share, m.hole_share, "of the prior's draws lie where data's codes are rare; 5% without holes"),
        ("samples unlike data", share, m.unlike, "of the decoded draws of the prior change more, when they are encoded "
         "and decoded again, than 95% of the reconstructions do; 5% without holes"),
        ("round trip, prior", sigmas, m.round_trip_prior, "root mean square of (z - mean) / sigma, after decoding and "
         "encoding z of the prior again"),
        ("round trip, data", sigmas, m.round_trip_data, "the same of data's z"),
        ("effective beta", ratio, m.beta, "beta / rec_weight"),
        ("residuals", ratio, m.square_ratio, "mean square of the residuals, in variances of the likelihood"),
        ("detail", share, m.detail, "of the data's detail is in the reconstructions: energy of the differences of "
         "neighbouring pixels, as far as it correlates with the data's"),
    ]  # fmt: skip
    return [(name, text(value), what) for name, text, value, what in rows if value is not None]
