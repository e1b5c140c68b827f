"""Steps and methods that take no time, for the tests of the harness. Stages' processes import this file too."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from benchmark.errors import DataError, LlmRefused, LossNotANumber, Unsupported
from benchmark.run.method import Method
from benchmark.run.stage import Stage

# ---- steps for the worker


def write_word(work, *, word):
    (work.folder / "word.txt").write_text(word)


def copy_word(work, *, parent):
    (work.folder / "word.txt").write_text((parent / "word.txt").read_text().upper())


def tell_surroundings(work, *, number):
    told = {"threads": work.threads, "number": number, "group": os.getpgrp() == os.getpid()}
    (work.folder / "told.json").write_text(json.dumps(told))


def tell_environment(work, *, names):
    (work.folder / "told.json").write_text(json.dumps({name: os.environ.get(name) for name in names}))


def count_words(work, *, split, limits):
    (work.folder / "count.json").write_text(json.dumps({"words": split.n_words, "limits": limits}))


def speak(work):
    print("said aloud")
    sys.stderr.write("said beside\n")
    subprocess.run(["echo", "said by a child"], check=True)


def fail(work, *, message):
    print("before the fall")
    (work.folder / "half.txt").write_text("half an artefact")
    raise ValueError(message)


def run_out_of_memory(work):
    raise MemoryError


def exit_quietly(work):
    raise SystemExit(0)


def kill_itself(work):
    os.kill(os.getpid(), signal.SIGKILL)


def be_terminated_while_training(work):
    # no import statement: what a step's file imports is looked for when a key is made, and this takes seconds
    raise import_module("pytorch_lightning.utilities.exceptions").SIGTERMException


def vanish(work):
    print("last words")
    sys.stdout.flush()
    os._exit(3)


def hang(work, *, pids, deaf=False, seconds=1000):
    """Never end, with a child that does not either; `deaf`: the child hears no SIGTERM."""
    order = "trap '' TERM; echo ready; exec sleep 1000" if deaf else "echo ready; exec sleep 1000"
    child = subprocess.Popen(["sh", "-c", order], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    Path(f"{pids}.part").write_text(f"{os.getpid()} {child.pid}")
    Path(f"{pids}.part").rename(pids)
    time.sleep(seconds)


def read_input(work):
    (work.folder / "input.txt").write_text(sys.stdin.read())


def see_gpus(work, *, path, number):
    """Write down which GPUs this process sees."""
    Path(path).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


def meet(work, *, mine, other):
    """Leave a mark, then wait until another stage has left its own: only stages at once can do that."""
    Path(mine).touch()
    deadline = time.monotonic() + 20
    while not Path(other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the other never came")
        time.sleep(0.01)


def await_mark(work, *, mine, other):
    """As `meet`, with time for the other's imports."""
    Path(mine).touch()
    deadline = time.monotonic() + 240
    while not Path(other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the other never came")
        time.sleep(0.05)


# ---- a method


def learn(work, *, train, dev, init, seed, weight, fail_on=(), sleep=0.0):
    """Remember the types of capitalised words, and those of the model before."""
    known = json.loads((init / "model.json").read_text()) if init else {}
    if any(split.corpus in fail_on for split in train):
        raise ValueError(f"{train[0].corpus} cannot be learned")
    time.sleep(sleep)
    for split in train:
        for sentence in split.sentences:
            for start, end, type_ in sentence.spans or ():
                for word in sentence.words[start:end]:
                    known[word] = type_
    (work.folder / "model.json").write_text(json.dumps(known))


def spot(work, *, model, words, types, seed, broken=None):
    """Predict a span of one word wherever the word is known."""
    known = json.loads((model / "model.json").read_text())
    if broken == "no file":
        return
    with (work.folder / "predictions.jsonl").open("w") as stream:
        for sentence in words.sentences[: 1 if broken == "one line" else None]:
            assert sentence.spans is None
            spans = [(n, n + 1, known[w]) for n, w in enumerate(sentence.words) if known.get(w) in types]
            stream.write(json.dumps({"id": sentence.id, "spans": spans}) + "\n")
    (work.folder / "about.json").write_text(json.dumps({"precision": "32"}))


@dataclass(frozen=True)
class Settings:
    encoder: str = "none"
    weight: float = 1.0
    source_weight: float = 1.0
    fail_on: tuple[str, ...] | list[str] = ()
    sleep: float = 0.0
    refuse: str | None = None
    broken: str | None = None


class Echo(Method):
    """Learns the source, then the target, then predicts: the shape of a real method."""

    Settings = Settings

    def plan(self, transfer, settings, seed):
        if transfer.target.name == settings.refuse:
            raise Unsupported(f"{transfer.target.name} is too far away.")
        source = None
        for domain in transfer.sources:
            source = Stage(
                learn, title=f"{domain.name} seed {seed}", size=float(domain.train.n_words), train=[domain.train],
                dev=None, init=source, seed=seed, weight=settings.source_weight, fail_on=settings.fail_on,
            )  # fmt: skip
        model = Stage(
            learn, title=f"{transfer.target.name} seed {seed}", size=float(transfer.target.train.n_words),
            train=[transfer.target.train], dev=transfer.target.dev, init=source, seed=seed, weight=settings.weight,
            fail_on=settings.fail_on, sleep=settings.sleep,
        )  # fmt: skip
        return Stage(
            spot, title=f"{transfer.test.corpus} seed {seed}", size=float(transfer.test.n_words), model=model,
            words=transfer.test, types=list(transfer.target.types), seed=seed, broken=settings.broken,
        )  # fmt: skip


# ---- a method whose stages do as they are told, run by run


def raise_(error):
    raise error


def speak_lines(number):
    for line in range(1, number + 1):
        print(f"line {line}")
    raise ValueError("the mast broke")


def hoard(work, mib):
    """Start a child that holds so much memory, and wait for ever."""
    code = f"x = bytearray({mib} << 20); x[::4096] = b'x' * len(x[::4096]); print('full', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    time.sleep(45)


def wait_for(path):
    """Wait until a file is there."""
    deadline = time.monotonic() + 240
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} never came")
        time.sleep(0.02)


def refuse_to_end(notes):
    """Hear no SIGTERM, nor let a child hear it, and tell who they are."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(None, pids=f"{notes}/pids", deaf=True, seconds=45)


def run_away(notes):
    """Start a child in a session of its own, then never end."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    Path(f"{notes}/runaway").write_text(str(child.pid))
    time.sleep(45)


def tell(work, words):
    """Print words in which `$NAME` stands for a variable of the environment, to the log and to the progress."""
    print(os.path.expandvars(words))
    work.report(note=os.path.expandvars(words))


ACTS = {
    "memory": lambda work, notes, words: raise_(MemoryError("no room")),
    "no memory": lambda work, notes, words: raise_(OSError(errno.ENOMEM, "Cannot allocate memory")),
    "hoard": lambda work, notes, words: hoard(work, int(words)),
    "nan": lambda work, notes, words: raise_(LossNotANumber("loss is not a number in epoch 2.")),
    "data": lambda work, notes, words: raise_(DataError("train.txt, line 3: this is no tag.")),
    "llm": lambda work, notes, words: raise_(LlmRefused("the model would not answer.")),
    "spend": lambda work, notes, words: work.spend(float(words)),
    "lines": lambda work, notes, words: speak_lines(int(words)),
    "raise": lambda work, notes, words: raise_(ValueError(os.path.expandvars(words))),
    "full": lambda work, notes, words: raise_(OSError(errno.ENOSPC, "No space left on device")),
    "die": lambda work, notes, words: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": lambda work, notes, words: time.sleep(float(words)),
    "wait": lambda work, notes, words: wait_for(f"{notes}/{words}"),
    "deaf": lambda work, notes, words: refuse_to_end(notes),
    "runaway": lambda work, notes, words: run_away(notes),
    "tell": lambda work, notes, words: tell(work, words),
    "report": lambda work, notes, words: work.report(**json.loads(words)),
    "see": lambda work, notes, words: Path(f"{notes}/seen-{os.getpid()}").write_text(os.environ.get(words, "nothing")),
    "keep": lambda work, notes, words: (work.checkpoints.mkdir(exist_ok=True), (work.checkpoints / words).touch()),
}  # what a stage does, and the word for it


def act(work, *, train, init, seed, script, notes, weight):
    """Do what the script says of this run (the last line of it from then on), then learn.

    A line is acts with ` & ` between them, each a word and what it needs: `tell $KEY & sleep 3`. Every run of a stage
    adds a line to a file outside the store.
    """
    runs = Path(notes) / f"{train[0].corpus}-{seed}.txt"
    with runs.open("a") as stream:
        stream.write(f"{os.getpid()} {work.folder}\n")
    number = len(runs.read_text().splitlines())
    line = script[min(number, len(script)) - 1] if script else ""
    for part in filter(None, line.split(" & ")):
        word = max((a for a in ACTS if part.startswith(a)), key=len)
        ACTS[word](work, notes, part.removeprefix(word).strip())
    learn(work, train=train, dev=None, init=init, seed=seed, weight=weight)


@dataclass(frozen=True)
class PlaySettings:
    notes: str = ""
    weight: float = 1.0  # of the target's stage alone
    script: dict[str, list[str]] = field(default_factory=dict)  # of `corpus seed`, or of `corpus`: what a stage learns


class Play(Method):
    """As Echo, but its stages do as their script says."""

    Settings = PlaySettings

    def plan(self, transfer, settings, seed):
        model = None
        for domain in (*transfer.sources, transfer.target):
            script = settings.script.get(f"{domain.name} {seed}", settings.script.get(domain.name, []))
            model = Stage(
                act, title=f"{domain.name} seed {seed}", size=float(domain.train.n_words), train=[domain.train],
                init=model, seed=seed, script=script, notes=settings.notes,
                weight=settings.weight if domain is transfer.target else 1.0,
            )  # fmt: skip
        return Stage(
            spot, title=f"{transfer.test.corpus} seed {seed}", size=float(transfer.test.n_words), model=model,
            words=transfer.test, types=list(transfer.target.types), seed=seed,
        )  # fmt: skip
