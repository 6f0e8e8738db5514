"""The adapter for the loss of a package for disentanglement: disent."""

from functools import partial
from types import SimpleNamespace

import torch.nn.functional as F

from .case import ALONE, Loss, alone, batch, case, fields

FRAMEWORKS = "disent/frameworks"
VAE, BETA_VAE = (f"{FRAMEWORKS}/vae/_unsupervised__{name}.py" for name in ("vae", "betavae"))
HANDLERS, MIXIN = f"{FRAMEWORKS}/helper/reconstructions.py", f"{FRAMEWORKS}/_ae_mixin.py"


@case("disent", "BetaVae")
def beta_vae():
    from disent.frameworks.helper.latent_distributions import LatentDistsHandlerNormal
    from disent.frameworks.helper.util import compute_ave_loss, detach_all
    from disent.nn.loss.reduction import loss_reduction
    from disent.util.iters import map_all

    part = partial(alone, "disent")
    step = part(VAE, "Vae.do_training_step", map_all=map_all, detach_all=detach_all)
    settings = fields("disent", MIXIN, "_AeAndVaeMixin.cfg") | fields("disent", VAE, "Vae.cfg")
    config = SimpleNamespace(**settings | fields("disent", BETA_VAE, "BetaVae.cfg"))
    latents = LatentDistsHandlerNormal(config.kl_loss_mode, config.loss_reduction)

    handler = SimpleNamespace(_reduction=config.loss_reduction, activate=lambda x: x)  # its mse has no activation
    method(handler, part(HANDLERS, "ReconLossHandlerMse.compute_unreduced_loss", F=F))
    method(handler, part(HANDLERS, "ReconLossHandlerMse.compute_unreduced_loss_from_partial"))
    method(handler, part(HANDLERS, "ReconLossHandler.compute_loss_from_partial", loss_reduction=loss_reduction))
    method(handler, part(HANDLERS, "ReconLossHandler.compute_ave_loss_from_partial", compute_ave_loss=compute_ave_loss))

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(cfg=config, recon_handler=handler, latents_handler=latents, log_dict=lambda *_, **__: 0)
        method(model, part(VAE, "Vae.compute_ave_recon_loss"))
        method(model, part(BETA_VAE, "BetaVae.compute_ave_reg_loss"))
        model._get_xs_and_targs = lambda batch, batch_idx: ((x,), (x,))
        model.encode_dists = lambda x: latents.encoding_to_dists((mu, logvar))
        model.decode_partial = lambda z: recon
        model.hook_intercept_ds = lambda posterior, prior: (posterior, prior, {})
        model.hook_compute_ave_aug_loss = lambda **_: (0, {})
        return step(model, (x,), 0)

    return Loss(
        step,
        loss,
        batch(3, 64, 64, latents=(9,), samples=4, recon="means"),
        f"recon_loss={config.recon_loss!r}, loss_reduction={config.loss_reduction!r}, beta={config.beta}",
        lambda mu, logvar: latents.encoding_to_dists_and_sample((mu, logvar))[2],
        ALONE,
        note="a comment of the package derives this beta for 3x64x64 pixels and 9 latents, from a beta of 4 with sums",
    )


def method(model, function):
    """Adds a function to a namespace as its method."""
    setattr(model, function.__name__, partial(function, model))
