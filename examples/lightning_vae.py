"""Lightning: training_step returns the loss, and the log has its terms.

    pip install lightning && python examples/lightning_vae.py

Under `Trainer(devices=2)` each rank has its own batch, and seed_everything(seed, workers=True) gives each rank other
noise. DDP takes the mean over ranks. This mean is the objective if all batches have the same size.
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
        # these are means over the batch, in nats; sync_dist takes the mean over the ranks too
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
    """Returns the trainer. Its callback_metrics are the last values of the log."""
    L.seed_everything(0, workers=True, verbose=False)
    loaders = [DataLoader(TensorDataset(blobs(k, seed=seed)), 64, shuffle=not seed) for seed, k in enumerate((n, 256))]
    trainer = L.Trainer(max_epochs=epochs, **({"accelerator": "auto"} | trainer))
    trainer.fit(LitVAE(), *loaders)
    return trainer


if __name__ == "__main__":
    print({k: round(v.item(), 3) for k, v in train(log_every_n_steps=10).callback_metrics.items()})
