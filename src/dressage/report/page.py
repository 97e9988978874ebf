"""Builds the page of one run: one self-contained HTML file, no script, everything from a model escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dressage.records import Battle, Candidate, GateResult, Grade, Measure, Preference, Prompt
from dressage.report import battles as sample
from dressage.report import figures, making
from dressage.report.found import found
from dressage.report.headline import guards, guards_in_short, headline, other_measures
from dressage.report.learnt import learnt
from dressage.report.reading import Config, Round, Run, read_run
from dressage.report.wording import visible
from dressage.store import commit_text

HERE = Path(__file__).parent


def write_report(run: Path) -> Path:
    """Writes `report/index.html` of the run folder `run` from what is there, and says where it lies.

    Raises:
        StoreError: where the folder holds no run, or a finished stage in it is damaged.
    """
    path = run / "report" / "index.html"
    commit_text(path, render("run.html", _page(read_run(run))))
    return path


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page from a template of this folder, with the style inside."""
    style = Markup((HERE / "style.css").read_text("utf-8"))  # our own file: it holds no one else's words
    return _environment().get_template(template).render(style=style, **values)


def _environment() -> Environment:
    """Escaping is always on, a name that is not there is an error, and no control character gets through."""
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Jinja hands every printed value through here; markup was cleaned when it was made."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# ---------------------------------------------------------------- what a page shows


def _page(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "summary": _summary(run.config),
        "rounds": [_round(run, round_) for round_ in reversed(run.rounds)],
        "training": figures.training(run.metrics),
        "judges": making.judges(run),
        "remarks": making.remarks(run),
        "evaluates": run.config.has("evaluate"),
        "config": run.config.text,
    }


def _summary(config: Config) -> list[tuple[str, str]]:
    """The few words under the title."""
    policy = str(config.raw["policy"]) if "policy" in config.raw else ""
    models = config.section("models")
    model = models.get(policy, {})
    where = next((str(model[key]) for key in ("path", "model") if key in model), policy)
    trainer = config.section("train")["trainer"]["kind"] if "trainer" in config.section("train") else ""
    seed = str(config.raw["seed"]) if "seed" in config.raw else ""
    return [(key, text) for key, text in (("policy", where), ("trainer", trainer), ("seed", seed)) if text]


def _round(run: Run, round_: Round) -> dict[str, Any]:
    measures, fought = round_.rows("evaluate", Measure), round_.rows("evaluate", Battle)
    candidates = {c.id: c for c in round_.rows("evaluate", Candidate)}
    gates = round_.rows("evaluate", GateResult)
    sides, rows = other_measures(measures)
    by = run.config.section("judge")
    return {
        "name": round_.name,
        "outdated": round_.outdated,
        "headline": headline(measures, fought),
        "guards": guards(gates, measures),
        "guards_in_short": guards_in_short(gates),
        "sides": sides,
        "measures": rows,
        "labelling": _labelling(round_, str(by["by"]) if "by" in by else ""),
        "replies": figures.replies(round_, fought, candidates),
        "battles": _battles(run.config, round_, fought, candidates),
        "found": found(round_, run.config.raw.get("seed"), "shown evidence", round_.name),
        "failures": making.failures(round_),
        "stages": making.stages(round_, run.config),
        "learnt": learnt(round_.facts("train")),
        "facts": making.facts(round_),
    }


def _labelling(round_: Round, judge: str) -> list[figures.Figure]:
    return figures.labelling(round_.rows("judge", Grade), round_.rows("judge", Preference), judge)


def _battles(
    config: Config, round_: Round, fought: Sequence[Battle], candidates: Mapping[str, Candidate]
) -> list[sample.Shown]:
    chosen = config.settings.evaluate if config.settings else None
    names = (config.raw.get("seed"), "shown battles", round_.name)
    rows = sample.chosen(fought, sample.FIRST if chosen is None else chosen.shown, *names)
    wanted = {key[0] for key in rows}
    stages = ("data", "evaluate") if wanted else ()
    prompts = {p.id: p for stage in stages for p in round_.rows(stage, Prompt) if p.id in wanted}
    return sample.shown(rows, prompts, candidates)
