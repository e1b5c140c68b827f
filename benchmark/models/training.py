"""The Lightning training loop that methods share: precision, progress, selection on dev, early stopping, clipping."""

import logging
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from benchmark.errors import LossNotANumber
from benchmark.models.checkpoints import Checkpoint, Keeper, set_random_state, starting_point, tell_resumed
from benchmark.work import Work

VERSION = 1  # rises when a change here could change a result


@dataclass(frozen=True)
class Fitted:
    """How training went: epochs run, the epoch kept, dev F1 each time it was asked (percent), the precision used."""

    epochs: int
    kept: int
    dev_f1: tuple[float, ...]
    precision: str


def resolve_precision(asked: str) -> str:
    """Return `bf16` or `32` for what was asked: `auto` is bf16 where the hardware has it.

    That is a GPU with bf16, or a CPU with avx512_bf16 or AMX.
    """
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    abilities = torch.cpu.get_capabilities()
    return "bf16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else "32"


def autocast(precision: str) -> Any:
    """Return the context in which a forward pass runs in this precision."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def prepare(seed: int, threads: int) -> None:
    """Fix the seed and the number of threads of this process, and quiet Lightning's advertisements."""
    torch.set_num_threads(threads)
    pl.seed_everything(seed, verbose=False)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a stage is one process
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")


class Selection(Callback):
    """Scores dev after every `every` epochs, keeps the best weights, stops when `patience` epochs bring no better.

    Without `score` the last epoch is kept.
    """

    def __init__(
        self,
        work: Work,
        score: Callable[[], float] | None,
        *,
        patience: int | None,
        epochs: int,
        every: int,
        clip: float | None = None,
    ) -> None:
        self.work, self.score, self.patience, self.epochs, self.every = work, score, patience, epochs, every
        self.clip = clip
        self.history: list[float] = []
        self.best: dict[str, Tensor] | None = None
        self.kept = -1

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any) -> None:
        """Clip gradients by their norm; Lightning's own clipping refuses a fused optimizer in bf16."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.clip)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, out: Any, *_: Any) -> None:
        """Stop the stage at a loss that is no number; tell how far training is, now and then."""
        if trainer.global_step % 25 == 0 or trainer.is_last_batch:
            loss = float(out["loss"])
            if not math.isfinite(loss):
                raise LossNotANumber(f"loss is not a number: {loss} at step {trainer.global_step}")
            self._tell(trainer, loss=round(loss, 4))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Score dev and decide what to keep and whether to go on."""
        if self.work.epochs is not None:
            self._keep_epoch(self.work.epochs, trainer.current_epoch + 1, module)
        if self.score is None:
            self.kept = trainer.current_epoch
            self._tell(trainer)
            return
        epoch = trainer.current_epoch + 1
        if epoch % self.every and epoch != self.epochs:
            return
        f1 = self.score()
        if not self.history or f1 > max(self.history):
            self.best = {name: value.detach().clone() for name, value in module.state_dict().items()}
            self.kept = trainer.current_epoch
        self.history.append(f1)
        self._tell(trainer, dev_f1=round(f1, 2))
        if self.patience is not None and trainer.current_epoch - self.kept >= self.patience:
            trainer.should_stop = True

    def _keep_epoch(self, folder: Path, epoch: int, module: nn.Module) -> None:
        """Keep the weights of an epoch at which dev is looked at, or could be: `<epoch>.pt`, whole or not at all."""
        if epoch % self.every == 0 or epoch == self.epochs:
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f"{epoch}.part"
            torch.save({name: value.detach().cpu() for name, value in module.state_dict().items()}, part)
            part.replace(folder / f"{epoch}.pt")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"history": [float(f1) for f1 in self.history], "best": self.best, "kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.history, self.best, self.kept = state_dict["history"], state_dict["best"], state_dict["kept"]

    def _tell(self, trainer: pl.Trainer, **figures: float) -> None:
        batches = max(1, int(trainer.num_training_batches))
        done = trainer.global_step / batches
        self.work.report(epoch=round(done, 2), of=self.epochs, **figures)


def fit(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    work: Work,
    *,
    epochs: int,
    precision: str,
    score: Callable[[], float] | None = None,
    patience: int | None = None,
    every: int = 1,
    clip: float | None = None,
    name: str = "fit",
) -> Fitted:
    """Train `module` on `data`, leaving it with the weights of the best dev epoch, or of the last without `score`.

    score      dev F1 of the module as it stands, in percent; asked after every `every` epochs and the last
    patience   epochs without a better dev F1 before training stops; None: never
    name       names the checkpoint in `work.checkpoints`; a step that trains more than once gives each its own

    A checkpoint serves a training of the same arguments that starts with the same weights and random numbers. A
    training that had ended returns at once what it returned then. One that was killed within an epoch continues there
    if the loader of `data` has `state_dict` and `load_state_dict`, and from the start of that epoch if not.
    Raises LossNotANumber when the loss is not a number.
    """
    used = resolve_precision(precision)
    loader = data.train_dataloader()
    selection = Selection(work, score, patience=patience, epochs=epochs, every=every, clip=clip)
    file = None
    if work.checkpoints is not None:
        training = {
            "arguments": (epochs, used, score is not None, patience, every, clip),
            "batches": len(loader),
            "weights and random numbers at the start": starting_point(module),
            "software": f"torch {torch.__version__}, lightning {version('pytorch-lightning')}",
            "kind of device": "cuda" if torch.cuda.is_available() else "cpu",
        }
        file = Checkpoint(work.checkpoints / f"{name}.ckpt", training, work.checkpointed)
        file.read()
    if file is not None and "fitted" in file.found:
        module.load_state_dict(file.found["state_dict"])
        module.train()
        set_random_state(file.found["random"])
        fitted = Fitted(**file.found["fitted"])
        tell_resumed(work, fitted.epochs, epochs)
        return fitted
    if work.epochs is not None and not (file is not None and file.found):
        shutil.rmtree(work.epochs, ignore_errors=True)  # of a training that nothing goes on from
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if used == "bf16" else "32-true",
        max_epochs=epochs,
        callbacks=[selection] if file is None else [selection, Keeper(work, file, epochs)],
        plugins=[LightningEnvironment(), *([] if file is None else [file])],  # one process, also in a job of SLURM
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    module.train()  # transformers hands its models over in eval mode, and Lightning leaves modes as they are
    try:
        trainer.fit(module, train_dataloaders=loader, ckpt_path=file.path if file and file.found else None)
        if selection.best is not None:
            module.load_state_dict(selection.best)
        if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
            raise LossNotANumber("loss is not a number: the weights are not finite after training")
    except LossNotANumber:
        if file is not None:
            file.path.unlink(missing_ok=True)  # its weights may be no numbers either
        raise
    fitted = Fitted(trainer.current_epoch, selection.kept + 1, tuple(selection.history), used)
    if file is not None:
        kept = {**asdict(fitted), "dev_f1": tuple(float(f1) for f1 in fitted.dev_f1)}
        file.write({"state_dict": module.state_dict(), "fitted": kept})
    return fitted


class Learner(pl.LightningModule):
    """A module that is trained as a recipe says.

    recipe   a `tagging.Recipe`
    steps    of the whole training
    """

    recipe: Any
    steps: int

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        r = self.recipe
        return optimizer(
            self, lr=r.lr, head_lr=r.head_lr, weight_decay=r.weight_decay, steps=self.steps, warmup=r.warmup,
            schedule=r.schedule,
        )  # fmt: skip

    def learn(self, data: Any, work: Work, recipe: Any, score: Callable[[], float] | None = None) -> Fitted:
        """Train on `data` as `fit` does; the arguments are the recipe's."""
        self.recipe, self.steps = recipe, recipe.epochs * len(data.train_dataloader())
        return fit(
            self, data, work, epochs=recipe.epochs, precision=recipe.precision, score=score, patience=recipe.patience,
            every=recipe.dev_every, clip=recipe.clip,
        )  # fmt: skip


def optimizer(
    module: nn.Module,
    *,
    lr: float,
    head_lr: float | None,
    weight_decay: float,
    steps: int,
    warmup: float,
    schedule: str,
) -> dict[str, Any]:
    """Return AdamW and its schedule in the form that Lightning takes.

    head_lr    learning rate of all that is not the encoder; None: `lr`
    warmup     share of `steps` over which the rate rises from 0
    schedule   `constant`, or `linear` down to 0 at `steps`
    """
    body = [p for n, p in module.named_parameters() if n.startswith("encoder.")]
    head = [p for n, p in module.named_parameters() if not n.startswith("encoder.")]
    groups = [{"params": body, "lr": lr}, {"params": head, "lr": head_lr or lr}]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, weight_decay=weight_decay, fused=True)
    rise = max(1, round(warmup * steps)) if warmup > 0 else 0

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return max(0.0, (steps - step) / max(1, steps - rise)) if schedule == "linear" else 1.0

    plan = torch.optim.lr_scheduler.LambdaLR(adam, rate)
    return {"optimizer": adam, "lr_scheduler": {"scheduler": plan, "interval": "step"}}
