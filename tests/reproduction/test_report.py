"""The report: one file, everything in it, nothing from elsewhere."""

import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from synthetic_runs import experiment_of, plan_of, tiny_suite, write_all, write_run

from stacx.reproduction.devices import Machine
from stacx.reproduction.execution import Failure
from stacx.reproduction.report import shown, write_report
from stacx.reproduction.results import Analysis, Comparison, Illustration, Table

NOTHING = Analysis()
MACHINE = Machine("gpu", ("H100 <80>",), 16)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags must close in order; keeps references, and what is read."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.references += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def report(tmp_path):
    """A function from an analysis to the page and the plan it is about."""

    def write(analysis=NOTHING, *, complete=True, failing=False, without_score=()):
        plan = plan_of(experiment_of("impala", "stac"), tiny_suite(), tmp_path)
        if complete:
            write_all(plan)
        else:
            write_run(plan.runs[0], lambda seed: 1.0)
            write_run(plan.runs[1], lambda seed: 1.0, share=0.5)
        pictures = []
        for illustration in analysis.illustrations:
            pictures.append(tmp_path / f"{illustration.name}.png")
            illustration.figure.savefig(pictures[-1], dpi=20)
        failures = [Failure(plan.runs[2], 1, "<b>it broke</b>")] if failing else []
        command = "stacx reproduce <x> --seeds 2"
        file = tmp_path / "report.html"
        options = {"machine": MACHINE, "command": command, "failures": failures}
        options |= {"without_score": without_score}
        write_report(file, plan, analysis, pictures, **options)
        return file.read_text(), plan

    return write


ANALYSIS = Analysis(
    [Comparison("share <of> cells", "72 %", "40 % & more")],
    [Table("t", "A <caption>", ("a", "b & c"), [("<script>alert(1)</script>", 0.123456)])],
    [Illustration("f", 'A "figure" <of> it', Figure(figsize=(3, 2)))],
)


def test_it_needs_nothing_from_elsewhere(report):
    text, _ = report(ANALYSIS)
    page = Page(text)
    assert len(page.references) == 1
    assert page.references[0].startswith("data:image/png;base64,iVBOR")
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)


def test_everything_is_escaped(report):
    text, _ = report(ANALYSIS, complete=False, failing=True)
    page = Page(text)
    for words in (
        "Made <up>",
        "share <of> cells",
        "40 % & more",
        "<script>alert(1)</script>",
        "b & c",
        "A <caption>",
        "<b>it broke</b>",
        "stacx reproduce <x> --seeds 2",
        "H100 <80>",
    ):
        assert words in page.text
    assert "<script" not in text
    assert "<b>" not in text


def test_it_says_what_was_run_and_how(report):
    text, plan = report(ANALYSIS)
    page = Page(text).text
    for run in plan.runs:
        assert run.command in page
    for words in ("2 seeds (0 to 1)", "jax ", "numpy ", "Python 3.", "16 usable cores", "6,400"):
        assert words in page
    assert "The runs took 8 s" in page  # four of two seconds
    assert "4 runs: a made-up machine" in page


def test_every_machine_that_runs_were_made_on_is_listed(report):
    _, plan = report(ANALYSIS)
    plan.runs[0].add_process(1.0, "another <machine>")
    plan.runs[1].timing.unlink()
    write_report(plan.output / "again.html", plan, Analysis(), [], machine=MACHINE, command="")
    page = Page((plan.output / "again.html").read_text()).text
    for words in ("3 runs: a made-up machine", "1 run: another <machine>", "1 run: not made yet"):
        assert words in page


def test_what_is_complete_without_a_score_is_named(report):
    assert "no episode: Catch <a>." in Page(report(ANALYSIS, without_score=["Catch <a>"])[0]).text


def test_what_is_incomplete_stands_first(report):
    text, _ = report(ANALYSIS, complete=False, failing=True)
    page = Page(text).text
    assert "Not complete: 3 of 4 runs" in page
    assert page.index("Not complete") < page.index("The paper and here")
    assert "Catch-bsuite stac: interrupted at 50%" in page
    assert "CartPole-v1 impala: to do; failed: <b>it broke</b>" in page


def test_nothing_is_incomplete_when_all_is_complete(report):
    text, _ = report(ANALYSIS)
    assert "Not complete" not in text
    assert "no episode" not in text


def test_without_anything_complete_there_still_is_a_page(report):
    text, _ = report(complete=False)
    assert "Not complete" in Page(text).text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        (3, "3"),
        (300_160, "300,160"),
        (0.123456, "0.1235"),
        (-499.127, "-499.1"),
        (123456.7, "123,457"),
    ],
)
def test_fields_of_tables(value, text):
    assert shown(value) == text
