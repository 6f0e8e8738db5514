"""Lightning: the loss in training_step, its terms in the log.

    pip install lightning && python examples/lightning_vae.py

Under `Trainer(devices=2)` the batch of each rank is its own: seed_everything(seed, workers=True) gives each rank other
noise; the mean over ranks that DDP takes is the objective where all batches are of one size.
"""

import lightning as L
import torch
from blobs import blobs
from torch.utils.data import DataLoader, TensorDataset

import vae_kernels as vk


class LitVAE(L.LightningModule):
    def __init__(self, latents=8, beta=1.0, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.vae = vk.mlp_vae((1, 16, 16), latents, (128,))

    def _terms(self, batch, name):
        terms = self.vae.loss(batch[0], beta=self.hparams.beta, return_terms=True)
        # means over the batch, in nats; sync_dist: over the ranks too
        log = {"loss": terms.loss.detach(), "nll": terms.nll.mean(), "kl": terms.kl.mean()}
        log["active_latents"] = (terms.kl_per_dim > 0.1).float().sum()
        self.log_dict({f"{name}/{k}": v for k, v in log.items()}, batch_size=len(batch[0]), sync_dist=True)
        return terms.loss

    def training_step(self, batch, _):
        return self._terms(batch, "train")

    def validation_step(self, batch, _):
        self._terms(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def train(epochs=5, n=2000, **trainer):
    """Returns the trainer, whose callback_metrics are the last values of the log."""
    L.seed_everything(0, workers=True, verbose=False)
    loaders = [DataLoader(TensorDataset(blobs(k, seed=seed)), 64, shuffle=not seed) for seed, k in enumerate((n, 256))]
    trainer = L.Trainer(max_epochs=epochs, **({"accelerator": "auto"} | trainer))
    trainer.fit(LitVAE(), *loaders)
    return trainer


if __name__ == "__main__":
    print({k: round(v.item(), 3) for k, v in train(log_every_n_steps=10).callback_metrics.items()})
