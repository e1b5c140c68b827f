"""A plan's cells, and every way in which a plan is refused."""

import re
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

import methods
from benchmark.corpus.card import find_cards
from benchmark.corpus.transfer import DEVS, ORDERS, REGIMES, SELECTS, Annotation, Auxiliary
from benchmark.errors import CdnerError, PlanError, UnknownName
from benchmark.models import backbones
from benchmark.paths import shipped_boards
from benchmark.run.cells import find_cell, plan_cells
from benchmark.run.plan import (
    BOARD_KEYS,
    BUDGET_KEYS,
    TRANSFER_KEYS,
    VARIANT_KEYS,
    boards,
    find_board,
    read_board,
)

VARIANTS = "variants:\n  tagger: {method: tagger}\n"
TRANSFERS = "transfers:\n  - {sources: [conll2003], targets: [ai]}\n"
METHODS = ", ".join(methods.METHODS)
CORPORA = ", ".join(find_cards())
SETTINGS = ", ".join(f.name for f in fields(methods.find("tagger").Settings))
KEYS = "sources, target, targets, order, regime, draws, select, dev, seeds, set, variants, auxiliary, annotate, chain, evaluate, others, curves"


@pytest.fixture
def board(tmp_path):
    """Return a function that writes a plan, and returns the board's folder."""

    def write(plan: str) -> str:
        folder = tmp_path / "results" / "harbour"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.yaml").write_text(textwrap.dedent(plan))
        return str(folder)

    return write


def test_the_page_about_plans_has_every_key_and_its_example_is_one(board):
    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text(encoding="utf8")
    [example] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert len(names(board(example))) == 12 + 12
    nested = [f.name for of in (Auxiliary, Annotation) for f in fields(of)]
    for key in (*BOARD_KEYS, *VARIANT_KEYS, *TRANSFER_KEYS, *BUDGET_KEYS, *nested, *REGIMES, *ORDERS, *SELECTS, *DEVS):
        assert re.search(rf"`[^`]*\b{key}\b[^`]*`", page), key


def names(folder: str) -> list[str]:
    return [cell.name for cell in read_board(folder).cells]


def transfer(line: str) -> str:
    return f"{VARIANTS}transfers:\n  - {line}\n"


def refusal(folder: str) -> str:
    """Return what reading a board is refused with, without the file that every refusal begins with."""
    with pytest.raises(CdnerError) as refused:
        read_board(folder)
    assert str(refused.value).startswith(f"{folder}/plan.yaml: ")
    return str(refused.value).removeprefix(f"{folder}/plan.yaml: ")


# ---- cells


def test_cells_are_variant_by_transfer_by_draw_by_seed(board):
    folder = board("""\
        variants:
          tagger: {method: tagger}
          tagger-crf: {method: tagger, set: {crf: true}}
        transfers:
          - {sources: [conll2003], targets: [ai, music]}
          - {sources: [conll2003], target: movie, regime: {fraction: 0.01}, draws: [1, 2], select: last, seeds: [1]}
          - {targets: [conll2003], regime: in-domain}
        seeds: [1, 2]
        """)

    assert names(folder) == [
        f"{variant}/{rest}"
        for variant in ("tagger", "tagger-crf")
        for rest in (
            "conll2003--ai/supervised/seed1",
            "conll2003--ai/supervised/seed2",
            "conll2003--music/supervised/seed1",
            "conll2003--music/supervised/seed2",
            "conll2003--movie/fraction-0.01/draw1-seed1",
            "conll2003--movie/fraction-0.01/draw2-seed1",
            "--conll2003/in-domain/seed1",
            "--conll2003/in-domain/seed2",
        )
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("{sources: [conll2003, music], targets: [ai]}", "tagger/conll2003+music--ai/supervised/seed1"),
        ("{sources: [conll2003], targets: [ai], regime: {shots: 5}}", "tagger/conll2003--ai/shots-5/seed1"),
        ("{sources: [conll2003], targets: [ai], regime: {sentences: 40}}", "tagger/conll2003--ai/sentences-40/seed1"),
        ("{sources: [conll2003], targets: [ai], regime: zero-shot}", "tagger/conll2003--ai/zero-shot/seed1"),
        ("{targets: [ai]}", "tagger/--ai/in-domain/seed1"),
        ("{target: ai, seeds: [7]}", "tagger/--ai/in-domain/seed7"),
    ],
)
def test_a_cell_is_named_after_what_it_is(board, line, name):
    assert names(board(transfer(line))) == [name]


def test_others_are_sources_of_each_other(board):
    folder = board(transfer("{sources: [conll2003], others: [ai, music], targets: [ai, music, movie]}"))

    assert names(folder) == [
        "tagger/conll2003+music--ai/supervised/seed1",
        "tagger/conll2003+ai--music/supervised/seed1",
        "tagger/conll2003+ai+music--movie/supervised/seed1",
    ]
    assert {cell.sources for cell in read_board(folder).expected()} == {("conll2003", "others of ai, music")}


def test_a_chain_is_a_cell_after_each_of_its_targets(board):
    folder = board(transfer("{sources: [conll2003], chain: [ai, music], evaluate: [conll2003, ai]}"))

    assert names(folder) == [
        "tagger/conll2003--ai/supervised+on-conll2003/seed1",
        "tagger/conll2003--ai/supervised/seed1",
        "tagger/conll2003--ai+music/supervised+on-conll2003/seed1",
        "tagger/conll2003--ai+music/supervised+on-ai/seed1",
    ]


def test_a_licensed_corpus_needs_no_card_until_there_is_one(board):
    plan = transfer("{targets: [ace05]}")
    assert "there is no corpus 'ace05'" in refusal(board(plan))

    [item] = plan_cells(found := read_board(board(f"licensed: {{ace05: of the LDC}}\n{plan}")), found.cells)

    assert (item.transfer, item.final) == (None, None)
    assert item.reason == "ace05 is not free to pass on (of the LDC); it runs with a card of your own (--cards)."


def test_seeds_are_one_where_the_plan_names_none(board):
    assert names(board(VARIANTS + TRANSFERS)) == ["tagger/conll2003--ai/supervised/seed1"]


def test_zero_shot_selects_the_last_model_unless_told(board):
    [cell] = read_board(board(transfer("{sources: [conll2003], targets: [ai], regime: zero-shot}"))).cells

    assert cell.spec.select == "last"


def test_a_transfers_settings_stand_over_the_variants(board):
    folder = board("""\
        variants:
          tagger: {method: tagger, set: {lr: 0.1, batch: 8}}
        transfers:
          - {sources: [conll2003], targets: [ai], set: {lr: 0.2}}
          - {sources: [conll2003], targets: [music]}
        """)

    assert [dict(c.changed) for c in read_board(folder).cells] == [{"lr": 0.2, "batch": 8}, {"lr": 0.1, "batch": 8}]


def test_a_transfer_may_be_for_some_variants(board):
    folder = board("""\
        variants:
          tagger: {method: tagger}
          lookup: {method: lookup}
        transfers:
          - {sources: [conll2003], targets: [ai]}
          - {sources: [conll2003], targets: [music], variants: [lookup]}
    """)

    assert names(folder) == [
        "tagger/conll2003--ai/supervised/seed1",
        "lookup/conll2003--ai/supervised/seed1",
        "lookup/conll2003--music/supervised/seed1",
    ]


def test_annotation_comes_by_everybody_and_at_every_threshold(board):
    folder = board("""\
        variants: {tagger: {method: tagger}}
        transfers:
          - {sources: [conll2003], targets: [ai], annotate: {by: [nobody, oracle], threshold: [2, 0.5]}}
    """)
    cells = read_board(folder).cells

    assert [c.spec.regime_label for c in cells] == ["supervised+nobody", "supervised+oracle-2", "supervised+oracle-0.5"]
    assert {c.spec.annotate.start for c in cells} == {"model"}


def test_added_data_comes_in_every_share_and_choice(board):
    folder = board("""\
        variants: {tagger: {method: tagger}}
        transfers:
          - sources: [conll2003]
            targets: [ai, music]
            auxiliary: {corpora: [ai, music, science], share: [0, 0.1, 0.5], choose: [random, similar]}
    """)
    cells = read_board(folder).cells

    assert [cell.spec.regime_label for cell in cells if cell.spec.target == "ai"] == [
        "supervised", "supervised+random-0.1", "supervised+random-0.5", "supervised+similar-0.1",
        "supervised+similar-0.5",
    ]  # fmt: skip
    assert {(c.spec.target, c.spec.auxiliary.corpora) for c in cells if c.spec.auxiliary} == {
        ("ai", ("music", "science")), ("music", ("ai", "science")),
    }  # fmt: skip


def test_a_variant_that_no_transfer_asks_for_is_refused(board):
    plan = f"variants: {{tagger: {{method: tagger}}, lookup: {{method: lookup}}}}\ntransfers:\n  - {{{SOURCE}, variants: [lookup]}}\n"

    assert refusal(board(plan)) == (
        "no transfer asks for the variant tagger; name it in the `variants` of one, or take it out."
    )


def test_seed_one_of_everything_runs_first(board):
    folder = board(VARIANTS + "transfers:\n  - {sources: [conll2003], targets: [ai, music]}\nseeds: [3, 1]\n")

    assert [c.name.partition("--")[2] for c in read_board(folder).running_order()] == [
        "ai/supervised/seed3",
        "music/supervised/seed3",
        "ai/supervised/seed1",
        "music/supervised/seed1",
    ]


def test_the_board_keeps_about_and_budget(board):
    found = read_board(board("about: Ships.\nbudget: {minutes_per_stage: 1.5}\n" + VARIANTS + TRANSFERS))

    assert (found.name, found.about, found.minutes_per_stage) == ("harbour", "Ships.", 1.5)


def test_tables_expect_every_cell(board):
    [cell] = read_board(
        board(transfer("{sources: [conll2003], target: movie, regime: {fraction: 0.05}, draws: [2]}"))
    ).expected()

    assert (cell.name, cell.sources, cell.target, cell.regime, cell.select, cell.draw, cell.seed) == (
        "tagger/conll2003--movie/fraction-0.05/draw2-seed1", ("conll2003",), "movie", "fraction-0.05", "target-dev", 2, 1,
    )  # fmt: skip


def test_a_board_is_found_by_name_folder_and_plan(board, tmp_path, monkeypatch):
    folder = board(VARIANTS + TRANSFERS)

    monkeypatch.chdir(tmp_path)
    for name in ("harbour", folder, f"{folder}/plan.yaml", "results/harbour"):
        assert str(find_board(name)) == folder


def test_an_unknown_board_is_told_with_the_nearest(board, tmp_path):
    board(VARIANTS + TRANSFERS)

    with pytest.raises(UnknownName) as refused:
        find_board("harbuor")

    assert str(refused.value) == (
        "there is no board 'harbuor': no folder of that path with a plan.yaml in it, and none of that name in "
        f"{tmp_path}/results. Did you mean 'harbour'? There are: {', '.join(boards())}."
    )


def test_a_board_may_lie_in_a_folder_of_boards(board, tmp_path, monkeypatch):
    folder = Path(board(VARIANTS + TRANSFERS))
    inner = folder.parent / "studies" / "depth"
    monkeypatch.chdir(tmp_path)
    inner.parent.mkdir()
    folder.rename(inner)

    found = read_board("studies/depth")

    assert (found.name, found.folder) == ("studies/depth", inner)
    assert read_board(str(inner)).name == "studies/depth"
    assert find_cell(f"studies/depth/{found.cells[0].name}", boards())[1].name == found.cells[0].name


@pytest.mark.parametrize("where", ["*/plan.yaml", "*/*/plan.yaml"])
def test_every_plan_that_comes_along_can_be_read(where):
    plans = list(shipped_boards().glob(where))

    assert plans
    assert all(read_board(str(plan.parent)).cells for plan in plans)


# ---- what a board's cells share

SHARING = """\
variants:
  tagger: {method: tagger, set: {encoder: rnn}}
  label_norm: {method: label_norm, set: {encoder: rnn}}
  lookup: {method: lookup}
transfers:
  - {sources: [demo-news], targets: [demo-cinema, demo-astronomy]}
  - {sources: [demo-news, demo-astronomy], target: demo-cinema, select: source-dev, order: joint}
  - {sources: [demo-news, demo-cinema], target: demo-astronomy, regime: {fraction: 0.5}, draws: [1, 2]}
  - {sources: [demo-cinema], target: demo-astronomy, regime: {fraction: 0.5}, draws: [1, 2]}
  - {sources: [demo-astronomy], target: demo-news, regime: zero-shot}
seeds: [1, 2]
"""


def planned(folder: str) -> list:
    found = read_board(folder)
    return plan_cells(found, found.cells)


def test_a_split_is_read_sampled_and_renamed_once_for_all_cells(board):
    splits = [s for item in planned(board(SHARING)) for stage in item.final.graph() for s in stage.splits]

    assert len({id(split) for split in splits}) == len({(s.corpus, s.name, s.hash) for s in splits})


def test_an_encoder_is_looked_up_once_for_all_cells_of_a_method(board, monkeypatch):
    asked = []
    find = backbones.find
    monkeypatch.setattr(backbones, "find", lambda *name: asked.append(name) or find(*name))

    planned(board(SHARING))

    assert asked == [("rnn", None)] * 2  # tagger, label_norm


def test_settings_that_are_equal_but_for_their_kind_are_kept_apart(board):
    [whole, broken] = planned(board("""\
        variants:
          whole: {method: tagger, set: {encoder: rnn, lr: 1}}
          broken: {method: tagger, set: {encoder: rnn, lr: 1.0}}
        transfers:
          - {sources: [demo-news], target: demo-cinema}
        """))  # fmt: skip

    assert (repr(whole.settings.lr), repr(broken.settings.lr)) == ("1", "1.0")
    assert whole.final.key != broken.final.key


# ---- refusals


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("ships", "the plan is 'ships', expected a mapping with about, variants, transfers, seeds, budget, licensed."),
        ("", "the plan is None, expected a mapping with about, variants, transfers, seeds, budget, licensed."),
        (VARIANTS, "the plan has no transfers; it needs variants, transfers and seeds."),
        (TRANSFERS, "the plan has no variants; it needs variants, transfers and seeds."),
        (
            "seed: [1]\n" + VARIANTS + TRANSFERS,
            "the plan has no key 'seed'. Did you mean 'seeds'? There are: about, variants, transfers, seeds, budget, licensed.",
        ),
        ("1: 2\n" + VARIANTS + TRANSFERS, "the plan has the key 1, which is no text; put it in quotes."),
        ("about: [1]\n" + VARIANTS + TRANSFERS, "about is [1], expected text."),
        (
            "seeds: 3\n" + VARIANTS + TRANSFERS,
            "seeds is 3, expected a list of different whole numbers, such as [1, 2, 3].",
        ),
        (
            "seeds: [1, 1]\n" + VARIANTS + TRANSFERS,
            "seeds is [1, 1], expected a list of different whole numbers, such as [1, 2, 3].",
        ),
        (
            "seeds: [true]\n" + VARIANTS + TRANSFERS,
            "seeds is [True], expected a list of different whole numbers, such as [1, 2, 3].",
        ),
        (
            "budget: {minutes_per_stage: 0}\n" + VARIANTS + TRANSFERS,
            "budget.minutes_per_stage is 0, expected a number above 0.",
        ),
        (
            "budget: {minutes_per_stage: .nan}\n" + VARIANTS + TRANSFERS,
            "budget.minutes_per_stage is nan, expected a number above 0.",
        ),
        (
            "budget: {minutes_per_stage: soon}\n" + VARIANTS + TRANSFERS,
            "budget.minutes_per_stage is 'soon', expected a number above 0.",
        ),
        (
            "budget: {minutes: 3}\n" + VARIANTS + TRANSFERS,
            "budget has no key 'minutes'. There are: minutes_per_stage, gib_per_stage.",
        ),
        (
            "budget: 3\n" + VARIANTS + TRANSFERS,
            "budget is 3, expected a mapping with minutes_per_stage, gib_per_stage.",
        ),
    ],
)
def test_a_plan_is_refused(board, plan, message):
    assert refusal(board(plan)) == message


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("[tagger]", "variants is ['tagger'], expected a mapping."),
        (
            "{a/b: {method: tagger}}",
            "the variant's name 'a/b' must be a word that can name a folder.",
        ),
        ("{a: tagger}", "variants.a is 'tagger', expected a mapping with method, set."),
        (
            "{a: {method: tagger, sett: {}}}",
            "variants.a has no key 'sett'. Did you mean 'set'? There are: method, set.",
        ),
        ("{a: {set: {}}}", "variants.a names no method; say `method: tagger`, or another."),
        ("{a: {method: 3}}", "variants.a.method is 3, expected text."),
        (
            "{a: {method: tager}}",
            f"there is no method 'tager'. Did you mean 'tagger'? There are: {METHODS}.",
        ),
        ("{a: {method: tagger, set: [crf]}}", "variants.a.set is ['crf'], expected a mapping."),
        (
            "{a: {method: tagger, set: {epoch: 3}}}",
            f"variants.a.set: Tagger has no setting 'epoch'. Did you mean 'epochs'? There are: {SETTINGS}.",
        ),
        (
            "{a: {method: tagger, set: {epochs: many}}}",
            "variants.a.set: epochs is 'many': input should be a valid integer.",
        ),
        (
            "{a: {method: tagger, set: {epochs: 1.5}}}",
            "variants.a.set: epochs is 1.5: input should be a valid integer.",
        ),
        ("{a: {method: tagger, set: {crf: 1}}}", "variants.a.set: crf is 1: input should be a valid boolean."),
        (
            "{a: {method: tagger, set: {schedule: linaer}}}",
            "variants.a.set: schedule is 'linaer': input should be 'constant' or 'linear'. Did you mean 'linear'?",
        ),
        ("{a: {method: tagger, set: {epochs: 0}}}", "variants.a.set: epochs must be at least 1; found 0."),
        ("{a: {method: tagger, set: {lr: -1.0}}}", "variants.a.set: lr must be above 0; found -1.0."),
        (
            "{a: {method: tagger, set: {warmup: 1.0}}}",
            "variants.a.set: warmup is a share of all steps, at least 0 and under 1; found 1.0.",
        ),
        (
            "{a: {method: tagger, set: {crf: true, o_weight: 0.5}}}",
            "variants.a.set: a CRF is trained on whole sentences and takes no class_weights and no o_weight.",
        ),
    ],
)
def test_a_variant_is_refused(board, variants, message):
    assert refusal(board(f"variants: {variants}\n{TRANSFERS}")) == message


SOURCE = "sources: [conll2003], targets: [ai]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ai", f"transfer 1 is 'ai', expected a mapping with {KEYS}."),
        ("{source: [ai], targets: [music]}", f"transfer 1 has no key 'source'. Did you mean 'sources'? There are: {KEYS}."),
        ("{sources: [ai]}", "transfer 1 needs one of `targets`, a list of corpora; `target`, one; `chain`, several that are learned one after another."),
        ("{target: ai, targets: [ai]}", "transfer 1 needs one of `targets`, a list of corpora; `target`, one; `chain`, several that are learned one after another."),
        ("{sources: [conll2003], chain: ai}", "transfer 1, chain is 'ai', expected a list of names, such as [ai, politics]."),
        ("{sources: [conll2003], targets: [ai], evaluate: [conl2003]}", f"transfer 1: there is no corpus 'conl2003'. Did you mean 'conll2003'? There are: {CORPORA}."),
        ("{target: [ai]}", "transfer 1, target is ['ai'], expected text; of several, say `targets`."),
        ("{targets: [ai], regime: fraction-0.01}", "transfer 1, regime is 'fraction-0.01'; write `regime: {fraction: 0.01}`."),
        ("{targets: [ai], regime: shots-5}", "transfer 1, regime is 'shots-5'; write `regime: {shots: 5}`."),
        ("{targets: ai}", "transfer 1, targets is 'ai', expected a list of names, such as [ai, politics]."),
        ("{targets: []}", "transfer 1, targets is [], expected a list of names, such as [ai, politics]."),
        ("{targets: [ai, ai]}", "transfer 1, targets names one twice: ai, ai."),
        ("{sources: conll2003, targets: [ai]}", "transfer 1, sources is 'conll2003', expected a list of names, such as [ai, politics]."),
        ("{sources: [conl2003], targets: [ai]}", f"transfer 1: there is no corpus 'conl2003'. Did you mean 'conll2003'? There are: {CORPORA}."),
        ("{sources: [conll2003], targets: [AI]}", f"transfer 1: there is no corpus 'AI'. Did you mean 'ai'? There are: {CORPORA}."),
        (f"{{{SOURCE}, regime: fractoin}}", "transfer 1, regime is 'fractoin'. Did you mean 'fraction'? There are: supervised, in-domain, zero-shot, fraction, sentences, shots."),
        (f"{{{SOURCE}, regime: {{shot: 5}}}}", "transfer 1, regime is 'shot'. Did you mean 'shots'? There are: supervised, in-domain, zero-shot, fraction, sentences, shots."),
        (f"{{{SOURCE}, regime: shots}}", "transfer 1: the regime shots needs an amount; write `regime: {shots: 5}`."),
        (f"{{{SOURCE}, regime: fraction}}", "transfer 1: the regime fraction needs an amount; write `regime: {fraction: 0.05}`."),
        (f"{{{SOURCE}, regime: {{supervised: 1}}}}", "transfer 1: the regime supervised takes no amount; write `regime: supervised`."),
        (f"{{{SOURCE}, regime: {{shots: few}}}}", "transfer 1: the amount of shots is 'few', expected a number."),
        (f"{{{SOURCE}, regime: {{shots: 1.5}}}}", "transfer 1: shots takes a whole number; found 1.5."),
        (f"{{{SOURCE}, regime: {{sentences: .nan}}}}", "transfer 1: the amount of sentences is nan, expected a number."),
        (f"{{{SOURCE}, regime: {{fraction: .nan}}}}", "transfer 1: the amount of fraction is nan, expected a number."),
        (f"{{{SOURCE}, regime: {{sentences: .inf}}}}", "transfer 1: the amount of sentences is inf, expected a number."),
        (f"{{{SOURCE}, regime: {{shots: 0}}}}", "transfer 1: the amount of shots must be above 0; found 0."),
        (f"{{{SOURCE}, regime: {{fraction: 5}}}}", "transfer 1: a fraction is at most 1; found 5. 5% is written 0.05."),
        (f"{{{SOURCE}, draws: [1]}}", "transfer 1: draws belong to the regimes fraction, sentences, shots; supervised shows all there is."),
        (f"{{{SOURCE}, regime: {{shots: 5}}, draws: 3}}", "transfer 1, draws is 3, expected a list of different whole numbers, such as [1, 2, 3]."),
        (f"{{{SOURCE}, regime: zero-shot, select: target-dev}}", "transfer 1: zero-shot shows no target gold, so nothing can be selected on target dev; say `select: source-dev` or `select: last`."),
        (f"{{{SOURCE}, select: best}}", "transfer 1, select is 'best'. There are: target-dev, source-dev, last."),
        (f"{{{SOURCE}, order: sequential}}", "transfer 1, order is 'sequential'. Did you mean 'sequence'? There are: sequence, joint, merge."),
        (f"{{{SOURCE}, dev: none}}", "transfer 1: `dev: none` leaves no dev to select on; say `select: last`."),
        (f"{{{SOURCE}, dev: 3}}", "transfer 1, dev is 3. There are: card, none."),
        (f"{{{SOURCE}, regime: in-domain}}", "transfer 1: the regime in-domain learns from the target alone, but sources are given (conll2003); leave `sources` out, or say `regime: supervised`."),
        ("{targets: [ai], regime: supervised}", "transfer 1: the regime supervised needs `sources`; without any, say `regime: in-domain`."),
        ("{targets: [ai], select: source-dev}", "transfer 1: in-domain has no source to select on; say `select: target-dev` or `select: last`."),
        ("{sources: [ai], targets: [ai]}", "transfer 1: ai is source and target at once; say `regime: in-domain` without sources."),
        ("{sources: [music, music], targets: [ai]}", "transfer 1, sources names one twice: music, music."),
        (f"{{{SOURCE}, seeds: []}}", "transfer 1, seeds is [], expected a list of different whole numbers, such as [1, 2, 3]."),
        (f"{{{SOURCE}, annotate: oracle}}", "transfer 1, annotate is 'oracle', expected a mapping with by, threshold, measure, start, model, base_url."),
        (f"{{{SOURCE}, annotate: {{threshold: 2}}}}", "transfer 1, annotate needs `by`. There are: oracle, llm, file, nobody."),
        (f"{{{SOURCE}, annotate: {{by: gold}}}}", "transfer 1, annotate, by is 'gold'. There are: oracle, llm, file, nobody."),
        (f"{{{SOURCE}, annotate: {{by: oracle, threshold: two}}}}", "transfer 1, annotate, threshold is 'two', expected a number, or a list of them."),
        (f"{{{SOURCE}, annotate: {{by: oracle, measure: entropie}}}}", "transfer 1, annotate, measure is 'entropie'. Did you mean 'entropy'? There are: entropy, surprisal."),
        (f"{{{SOURCE}, annotate: {{by: [oracle, nobody], model: m}}}}", "transfer 1, annotate: model and base_url are for `by: llm`; found `by: oracle, nobody`."),
        (f"{{{SOURCE}, annotate: {{by: oracle, start: gold}}}}", "transfer 1: annotate: where train starts with gold, by oracle changes nothing; say `start: model`, or leave `annotate` out."),
        (f"{{{SOURCE}, auxiliary: [ai]}}", "transfer 1, auxiliary is ['ai'], expected a mapping with corpora, share, choose, features, types."),
        (f"{{{SOURCE}, auxiliary: {{share: 0.1}}}}", "transfer 1, auxiliary, corpora is None, expected a list of names, such as [ai, politics]."),
        (f"{{{SOURCE}, auxiliary: {{corpora: [musik], share: 0.1}}}}", f"transfer 1, auxiliary: there is no corpus 'musik'. Did you mean 'music'? There are: {CORPORA}."),
        (f"{{{SOURCE}, auxiliary: {{corpora: [music]}}}}", "transfer 1, auxiliary, share is None, expected a number from 0 to 1, or a list of them."),
        (f"{{{SOURCE}, auxiliary: {{corpora: [music], share: 10}}}}", "transfer 1, auxiliary, share is 10, expected a number from 0 to 1, or a list of them."),
        (f"{{{SOURCE}, auxiliary: {{corpora: [music], share: 0.1, choose: near}}}}", "transfer 1, auxiliary, choose is 'near'. There are: random, similar, dissimilar."),
        (f"{{{SOURCE}, auxiliary: {{corpora: [conll2003], share: 0.1}}}}", "transfer 1: auxiliary: conll2003 is the source already."),
        (f"{{{SOURCE}, variants: [taggr]}}", "transfer 1: there is no variant 'taggr'. Did you mean 'tagger'? There are: tagger."),
        (f"{{{SOURCE}, variants: []}}", "transfer 1, variants is [], expected a list of names, such as [ai, politics]."),
        (f"{{{SOURCE}, set: {{epoch: 3}}}}", f"transfer 1, variant tagger: Tagger has no setting 'epoch'. Did you mean 'epochs'? There are: {SETTINGS}."),
    ],
)  # fmt: skip
def test_a_transfer_is_refused(board, line, message):
    assert refusal(board(transfer(line))) == message


def test_a_setting_is_told_with_its_variant_and_transfer_where_others_fit(board):
    plan = (
        "variants:\n  good: {method: tagger}\n  crf: {method: tagger, set: {crf: true}}\ntransfers:\n"
        f"  - {{{SOURCE}}}\n  - {{sources: [conll2003], targets: [music, movie], set: {{o_weight: 0.5}}}}\n"
    )

    assert refusal(board(plan)) == (
        "transfer 2, variant crf: a CRF is trained on whole sentences and takes no class_weights and no o_weight."
    )


def test_the_second_transfer_is_told_by_its_number(board):
    plan = transfer(f"{{{SOURCE}}}") + "  - {targets: [mars]}\n"

    assert refusal(board(plan)) == f"transfer 2: there is no corpus 'mars'. There are: {CORPORA}."


def test_one_name_for_two_cells_is_refused(board):
    plan = transfer(f"{{{SOURCE}}}") + f"  - {{{SOURCE}, select: last}}\n"

    assert refusal(board(plan)) == (
        "the cell tagger/conll2003--ai/supervised/seed1 stands in two transfers; a cell's name must mean one thing. What "
        "a name does not say (order, select, dev, set) is compared across boards: put one of the two into a board of its "
        "own."
    )


def test_transfers_that_are_no_list_are_refused(board):
    assert refusal(board(VARIANTS + "transfers: {targets: [ai]}\n")) == (
        "transfers is {'targets': ['ai']}, expected a list, one transfer an item."
    )


def test_what_is_no_yaml_is_refused_with_the_place(board):
    folder = board("variants: {tagger: {method: tagger}\n")

    assert refusal(folder) == "line 2: this is no YAML: expected ',' or '}', but got '<stream end>'."


def test_the_refusal_keeps_its_kind(board):
    with pytest.raises(UnknownName):
        read_board(board(transfer("{targets: [mars]}")))
    with pytest.raises(PlanError):
        read_board(board("seeds: 3\n" + VARIANTS + TRANSFERS))
