"""The file that a training continues from: when it is written, what it holds, whom it serves.

A training that was cut short continues from its last checkpoint and ends as if nothing had happened: same weights,
same choice of epoch, same random numbers afterwards (fp32, a fixed number of threads).
"""

import hashlib
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO
from torch import nn

from benchmark.work import Work


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
