"""LAR whole: boards with a server on this machine, then again with nothing but its kept answers."""

import gzip
import json
import shutil

import yaml
from models.conftest import save_t5
from scripted import KEY, Scripted, capitals

NEWS, FILM = "demo-news", "demo-cinema"


def answer(asked: dict) -> str:
    """Return the first option of a choice, and what `capitals` says of a sentence."""
    return "A" if "\nEntity: " in asked["messages"][-1]["content"] else capitals(asked)


def predictions(folder) -> dict[str, bytes]:
    records = folder / "records"
    return {str(p.relative_to(records)): gzip.decompress(p.read_bytes()) for p in records.rglob("*.jsonl.gz")}


def test_enhanced_inference_and_zero_shot_run_and_run_again_without_a_server(shell, tmp_path, monkeypatch):
    small = {
        "backbone": str(save_t5(tmp_path / "t5")), "decoding": "grounded", "instruction": False, "lr": 1e-2,
        "source_epochs": 4, "epochs": 4, "batch": 16, "precision": "32", "alignment": "embedding-hungarian",
    }  # fmt: skip
    plan = {
        "variants": {
            "lar": {"method": "lar", "set": small},
            "lar-plus": {"method": "lar", "set": {**small, "labelled": 0.2}},
        },
        "transfers": [
            {"sources": [NEWS], "targets": [FILM], "select": "last", "variants": ["lar"]},
            {"sources": [NEWS], "targets": [FILM], "regime": "zero-shot"},
        ],
    }
    folder = tmp_path / "results" / "aligned"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    with Scripted(answer=answer) as server:
        asks = {"CDNER_LLM_BASE_URL": server.url, "CDNER_LLM_API_KEY": KEY}
        code, printed = shell.run("run", "aligned", "--no-table", **asks)
        assert code == 0, printed
        asked = [r["messages"] for r in server.requests]
        assert {r["model"] for r in server.requests} == {"gpt-3.5-turbo"}
    first = predictions(folder)
    told = {p.parent.parent.parent.name + "/" + p.parent.name: json.loads(p.read_text())
            for p in (folder / "records").rglob("*.json")}  # fmt: skip
    assert {name: r["status"] for name, r in told.items()} == {
        "lar/supervised": "ok", "lar/zero-shot": "ok", "lar-plus/zero-shot": "ok"
    }  # fmt: skip
    choices = [m for m in asked if "\nEntity: " in m[-1]["content"]]
    assert choices
    assert all(len(m) == 3 for m in choices)  # one demonstration
    assert sum(r["audit"]["reassigned"]["asked"] for r in told.values()) >= len(choices)
    assert len(asked) > len(choices)  # train was labelled

    shutil.copytree(tmp_path / "store" / "answers", tmp_path / "kept")
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(folder / "records")
    code, printed = shell.run("run", "aligned", "--no-table", "--llm", "replay", CDNER_ANSWERS=str(tmp_path / "kept"),
                              CDNER_LLM_BASE_URL=server.url)  # fmt: skip

    assert code == 0, printed
    assert predictions(folder) == first
    show = "show", f"aligned/lar/{NEWS}--{FILM}/supervised/seed1"
    code, printed = shell.run(*show, "alignment", CDNER_LLM_BASE_URL=server.url)
    assert code == 0
    assert printed.startswith(
        "align  demo-news and demo-cinema, embedding-hungarian, seed 1\n\nAlignment by embedding-"
    )
    code, printed = shell.run(*show, "audit", CDNER_LLM_BASE_URL=server.url)
    assert '"reassigned"' in printed  # of the last stage that has one
    code, printed = shell.run(*show, CDNER_LLM_BASE_URL=server.url)
    assert "alignment.md, alignment.json" in printed
    shutil.rmtree(tmp_path / "store" / "stages")
    code, printed = shell.run(*show, "alignment", CDNER_LLM_BASE_URL=server.url)
    assert (code, "5 of 5 stages are not there: --build builds them." in printed) == (1, True)
