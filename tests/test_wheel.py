"""The wheel: what is in it, and that it works away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def run(code: str, *folders: Path, where: Path, **environment: str) -> str:
    """Return what a Python process prints that has folders before all else on its path, away from the checkout."""
    path = os.pathsep.join(map(str, folders))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=where, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy of what git would take, so that nothing is written into the checkout."""
    root = tmp_path_factory.mktemp("build")
    source = root / "source"
    leave_out = shutil.ignore_patterns("__pycache__", "records", "*.egg-info")
    for name in ("benchmark", "methods", "datasets", "results"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "dist"), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    [found] = (root / "dist").glob("cdner-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the folder that the wheel is installed into."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def test_the_wheel_holds_the_packages_the_cards_and_the_demo_corpora(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(p.relative_to(CHECKOUT)) for root in ("benchmark", "methods") for p in (CHECKOUT / root).rglob("*.py")
    }
    cards = {f"benchmark/_cards/{p.name}" for p in (CHECKOUT / "datasets").glob("*.yaml")}
    corpora = {
        f"benchmark/_cards/{p.relative_to(CHECKOUT / 'datasets')}"
        for p in (CHECKOUT / "datasets" / "demo").rglob("*.txt")
    }

    assert modules <= names
    assert cards
    assert cards <= names
    assert "benchmark/llm/prices.yaml" in names
    assert len(corpora) == 9
    assert corpora <= names
    assert {f"benchmark/_boards/{name}/plan.yaml" for name in ("demo", "minilm")} <= names
    assert {f"benchmark/_published/{p.name}" for p in (CHECKOUT / "results" / "published").glob("*.yaml")} <= names


def test_the_wheel_has_no_top_level_datasets(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"benchmark", "methods"}


def test_an_installed_cdner_lists_its_corpora_and_leaves_datasets_alone(installed, tmp_path):
    out = run(
        "import benchmark\nfrom benchmark.cli import main\nmain(['list', 'corpora'])\n"
        "import datasets\nprint(benchmark.__file__, datasets.__file__, datasets.Dataset.__name__)",
        installed,
        where=tmp_path,
    )
    *corpora, last = out.splitlines()
    ours, theirs, name = last.split()

    assert Path(ours) == installed / "benchmark" / "__init__.py"
    assert not Path(theirs).is_relative_to(CHECKOUT / "datasets")
    assert name == "Dataset"
    assert {line.split()[0] for line in corpora} == {p.stem for p in (CHECKOUT / "datasets").glob("*.yaml")}


def test_an_installed_cdner_has_the_published_numbers(installed, tmp_path):
    code = "import sys\nfrom benchmark.cli import main\nsys.exit(main(['published', '--system', 'laner', '--target', 'ai']))"
    out = run(code, installed, where=tmp_path, CDNER_RESULTS="")

    assert "13 numbers in 3 papers" in out


def test_an_installed_cdner_reads_its_demo_corpora_and_plans_its_demo(installed, tmp_path):
    code = "import sys\nfrom benchmark.cli import main\nsys.exit(main(['run', 'demo', '--dry-run']))"
    out = run(code, installed, where=tmp_path, CDNER_RESULTS="", CDNER_STORE=str(tmp_path / "store"))

    assert "tagger/demo-news--demo-cinema/supervised/seed1  to run\n" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]  # a dry run writes no board


# ---- a method of another package

METHOD = '''\
"""Anchor: predicts nothing at all.

Paper    A. Author, "Ships at Rest", 2019
"""

from dataclasses import dataclass

from benchmark.run.method import Method
from benchmark.run.stage import Stage


@dataclass(frozen=True)
class Settings:
    depth: int = 3


def drop(work, *, words, depth):
    raise NotImplementedError


class Anchor(Method):
    Settings = Settings

    def plan(self, transfer, settings, seed):
        return Stage(drop, title=f"anchor seed {seed}", words=transfer.test, depth=settings.depth)
'''

PLAN = """\
variants: {deep: {method: anchor, set: {depth: 9}}}
transfers: [{sources: [demo-news], targets: [demo-cinema]}]
"""


@pytest.fixture
def shipyard(tmp_path):
    """Return a folder with a package that brings a method, as an installed one would."""
    folder = tmp_path / "site"
    (folder / "shipyard-1.0.dist-info").mkdir(parents=True)
    (folder / "shipyard-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shipyard\nVersion: 1.0\n")
    (folder / "shipyard-1.0.dist-info" / "entry_points.txt").write_text("[cdner.methods]\nanchor = shipyard:Anchor\n")
    (folder / "shipyard.py").write_text(METHOD)
    return folder


def test_a_method_of_another_package_is_listed(shipyard, tmp_path):
    out = run("from benchmark.cli import main\nmain(['list', 'methods'])", shipyard, CHECKOUT, where=tmp_path)

    assert any(line.split(maxsplit=1) == ["anchor", "Anchor: predicts nothing at all."] for line in out.splitlines())


def test_a_method_of_another_package_is_planned(shipyard, tmp_path):
    (tmp_path / "results" / "harbour").mkdir(parents=True)
    (tmp_path / "results" / "harbour" / "plan.yaml").write_text(PLAN)
    code = "import sys\nfrom benchmark.cli import main\nsys.exit(main(['run', 'harbour', '--dry-run']))"
    out = run(code, shipyard, CHECKOUT, where=tmp_path)

    assert out.startswith("deep/demo-news--demo-cinema/supervised/seed1  to run\n")
    assert "  drop anchor seed 1\n" in out


def test_an_entry_point_that_claims_a_name_of_the_table_is_refused(shipyard, tmp_path):
    (shipyard / "shipyard-1.0.dist-info" / "entry_points.txt").write_text("[cdner.methods]\ntagger = shipyard:Anchor\n")
    code = "import sys\nfrom benchmark.cli import main\nsys.stderr = sys.stdout\nprint(main(['list', 'methods']))"
    out = run(code, shipyard, CHECKOUT, where=tmp_path)

    assert out == (
        "cdner: the entry point 'tagger' = 'shipyard:Anchor' claims a name that 'methods.tagger:Tagger' has; "
        "rename it in its package.\n1\n"
    )
