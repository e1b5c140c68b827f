"""The Lightning training loop that methods share: precision, progress, selection on dev, early stopping, checkpoints.

A training that was cut short continues from its last checkpoint and ends as if nothing had happened: same weights,
same choice of epoch, same random numbers afterwards (fp32, a fixed number of threads).
"""

import hashlib
import logging
import math
import os
import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor, nn

from benchmark.errors import LossNotANumber
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
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")


class Selection(Callback):
    """Scores dev after every `every` epochs, keeps the best weights, stops when `patience` epochs bring no better.

    Without `score` the last epoch is kept.
    """

    def __init__(
        self, work: Work, score: Callable[[], float] | None, *, patience: int | None, epochs: int, every: int
    ) -> None:
        self.work, self.score, self.patience, self.epochs, self.every = work, score, patience, epochs, every
        self.history: list[float] = []
        self.best: dict[str, Tensor] | None = None
        self.kept = -1

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, out: Any, *_: Any) -> None:
        """Stop the stage at a loss that is no number; tell how far training is, now and then."""
        if trainer.global_step % 25 == 0 or trainer.is_last_batch:
            loss = float(out["loss"])
            if not math.isfinite(loss):
                raise LossNotANumber(f"loss is not a number: {loss} at step {trainer.global_step}")
            self._tell(trainer, loss=round(loss, 4))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Score dev and decide what to keep and whether to go on."""
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


def random_state() -> dict[str, Any]:
    """Return where the random numbers of torch, CUDA (once in use), numpy and Python are, as tensors and numbers."""
    state = np.random.get_state(legacy=False)
    state["state"]["key"] = state["state"]["key"].tolist()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "numpy": state,
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Let random numbers go on from where `random_state` saw them."""
    torch.set_rng_state(state["torch"])
    for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def starting_point(module: nn.Module) -> str:
    """Return a hash of the weights and random numbers that a training starts with."""
    state = random_state()
    digest = hashlib.sha256(repr([state["numpy"], state["python"]]).encode())
    for name, value in sorted({**module.state_dict(), "random": state["torch"]}.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class Checkpoint(CheckpointIO):
    """The file that a training continues from: written whole or not at all, read without running code from it.

    training   names and values that tell this training from another; one that differs cannot go on from the file
    written    is called whenever the file was written
    """

    def __init__(self, path: Path, training: Mapping[str, Any], written: Callable[[], None]) -> None:
        self.path, self.training, self.written = path, dict(training), written
        self.part = path.with_name(f"{path.name}.part")
        self.found: dict[str, Any] = {}

    def read(self) -> None:
        """Read the file, if there is one, into `found`. One that is of no use is deleted."""
        self.part.unlink(missing_ok=True)
        if not self.path.exists():
            return
        try:
            with ZipFile(self.path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("its bytes are not those that were written")
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            other = [name for name, value in self.training.items() if found["training"].get(name) != value]
            why = f"not the same: {', '.join(other)}" if other else ""
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a broken file may raise anything
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
        if why:
            self.path.unlink()
            print(f"checkpoint {self.path.name} deleted, training starts from the beginning ({why})", flush=True)  # noqa: T201
        else:
            self.found = found

    def write(self, state: Mapping[str, Any]) -> None:
        """Put `state` and the random numbers into the file. Where that fails, say so and leave the file as it was."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.part.open("wb") as stream:
                torch.save({**state, "training": self.training, "random": random_state()}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(self.part, self.path)
            self.written()
        except (OSError, RuntimeError) as error:
            print(f"no checkpoint could be written: {error}", flush=True)  # noqa: T201
        finally:
            self.part.unlink(missing_ok=True)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write what Lightning saves."""
        self.write(checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Hand Lightning what was read, once."""
        found, self.found = self.found, {}
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


class Keeper(Callback):
    """Writes a checkpoint now and then, and sets random numbers to where the one that was read left them.

    Now and then: when `checkpoint_seconds` have passed, and twenty times what the last one took; and at SIGTERM, after
    which Lightning ends training. None is written once training has nothing more to do: `fit` writes the last.
    """

    def __init__(self, work: Work, file: Checkpoint, epochs: int) -> None:
        self.work, self.file, self.epochs = work, file, epochs
        self.last, self.cost = time.monotonic(), 0.0
        self.random: dict[str, Any] | None = None
        self.between_epochs = False

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add whether an epoch is under way."""
        checkpoint["between_epochs"] = trainer.is_last_batch

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take what Lightning does not restore."""
        self.random, self.between_epochs = checkpoint["random"], checkpoint["between_epochs"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Set random numbers for an epoch that starts: Lightning makes its iterator next, which draws."""
        if self.random is not None and self.between_epochs:
            set_random_state(self.random)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Set random numbers for an epoch under way, whose iterator has drawn; say where training continues."""
        if self.random is None:
            return
        if not self.between_epochs:
            set_random_state(self.random)
        self.random = None
        tell_resumed(self.work, trainer.global_step / trainer.num_training_batches, self.epochs)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Write a checkpoint where it is time and the loader can be taken up within an epoch."""
        if not trainer.is_last_batch and hasattr(trainer.train_dataloader, "load_state_dict"):
            self._keep(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write a checkpoint where it is time and another epoch follows."""
        if not trainer.should_stop and trainer.current_epoch + 1 < self.epochs:
            self._keep(trainer)

    def _keep(self, trainer: pl.Trainer) -> None:
        started = time.monotonic()
        seconds = self.work.checkpoint_seconds
        wait = max(seconds, 20 * self.cost) if seconds > 0 else 0.0
        if started - self.last < wait and not trainer.received_sigterm:
            return
        trainer.save_checkpoint(self.file.path)
        self.last = time.monotonic()
        self.cost = self.last - started


def tell_resumed(work: Work, epoch: float, epochs: int) -> None:
    """Say in the log and in the report where training continues."""
    print(f"continues from epoch {round(epoch, 2):g}", flush=True)  # noqa: T201
    work.report(epoch=round(epoch, 2), of=epochs, resumed=round(epoch, 2))


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
    selection = Selection(work, score, patience=patience, epochs=epochs, every=every)
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
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if used == "bf16" else "32-true",
        max_epochs=epochs,
        callbacks=[selection] if file is None else [selection, Keeper(work, file, epochs)],
        plugins=file,
        gradient_clip_val=clip,
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
