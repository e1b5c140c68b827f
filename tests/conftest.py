"""What every test stands on: folders of its own, and one warm engine for all that need one."""

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and no more.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell has what it runs in the background ignore Ctrl-C, and what that starts ignores it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).resolve().parent
FAKES = HERE / "run"  # `fake_methods` lies there; stages' processes must find it too


@pytest.fixture(autouse=True)
def own_folders(request, tmp_path, monkeypatch):
    """Give every test a store, a cache and a folder of boards of its own.

    Where the user's corpora lie is forgotten too, but for the tests that read them where they are.
    """
    for name in ("store", "cache", "results"):
        monkeypatch.setenv(f"CDNER_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("CDNER_ENGINE", os.devnull)  # not the user's own
    if HERE / "corpus" not in request.path.parents and request.path.name != "test_results.py":
        monkeypatch.delenv("CDNER_DATA", raising=False)
        monkeypatch.delenv("CDNER_CARDS", raising=False)


@pytest.fixture
def scripted(monkeypatch):
    """Return a server of the chat-completions API, which the environment names; `faults` of it may be set."""
    from scripted import KEY, Scripted

    for name in ("CDNER_LLM_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "CDNER_LLM_PRICES", "CDNER_ANSWERS"):
        monkeypatch.delenv(name, raising=False)
    with Scripted() as server:
        monkeypatch.setenv("CDNER_LLM_BASE_URL", server.url)
        monkeypatch.setenv("CDNER_LLM_API_KEY", KEY)
        yield server


@pytest.fixture
def store(tmp_path):
    from benchmark.run.store import Store

    return Store.open(tmp_path / "store")


@pytest.fixture(scope="session")
def fakes_on_path():
    """Let this process and the fork server import `fake_methods`."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FAKES), *([before] if before else [])])
    sys.path.insert(0, str(FAKES))
    yield importlib.import_module("fake_methods")
    sys.path.remove(str(FAKES))
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def warm_engine(fakes_on_path):
    """One fork server for the whole session: importing torch takes seconds."""
    from benchmark.run.local import LocalEngine

    engine = LocalEngine(slots=2, threads=1)
    engine.warm()
    yield engine
    engine.close()
