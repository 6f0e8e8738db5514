"""Adapters for the losses of packages for robots and for several modalities: lerobot, multivae."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .case import ALONE, Loss, alone, batch, case, fields


@case("lerobot", "ACTPolicy.forward")
def act():
    scope = {"torch": torch, "F": F, "ACTION": "action", "OBS_IMAGES": "images"}
    forward = alone("lerobot", "lerobot/policies/act/modeling_act.py", "ACTPolicy.forward", **scope)
    config = fields("lerobot", "lerobot/policies/act/configuration_act.py", "ACTConfig")

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(
            config=SimpleNamespace(image_features=(), use_vae=config["use_vae"], kl_weight=config["kl_weight"]),
            model=lambda batch: (recon, (mu, logvar)),
        )
        return forward(model, {"action": x, "action_is_pad": torch.zeros(x.shape[:2], dtype=torch.bool)})[0]

    return Loss(
        forward,
        loss,
        batch(config["chunk_size"], 14, latents=(config["latent_dim"],), samples=8, recon="means", x="normal"),
        f"kl_weight={config['kl_weight']}, chunk_size={config['chunk_size']}, actions of 14 numbers",
        how=ALONE,
    )


@case("multivae", "MVAE, one modality")
def mvae():
    def part(file, name, **scope):
        return alone("multivae", f"multivae/models/{file}.py", name, torch=torch, dist=torch.distributions, **scope)

    draw = part("base/base_utils", "rsample_from_gaussian")
    function = part("mvae/mvae_model", "MVAE._compute_elbo_subset", rsample_from_gaussian=draw)
    log_prob = part("base/base_utils", "set_decoder_dist")("normal", {})
    beta = fields("multivae", "multivae/models/mvae/mvae_config.py", "MVAEConfig")["beta"]

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(
            compute_mu_log_var_subset=lambda inputs, subset: (mu, logvar),
            decoders={"images": lambda z: SimpleNamespace(reconstruction=recon)},
            recon_log_probs={"images": log_prob},
            rescale_factors={"images": 1.0},
        )
        return function(model, SimpleNamespace(data={"images": x}), ["images"], beta)[0]

    return Loss(
        function,
        loss,
        batch(1, 28, 28, recon="means"),
        f"decoders_dist='normal', beta={beta}",
        draw,
        ALONE,
        note="rescale_factors was 1, and one modality was present: its posterior is then that of the loss",
    )
