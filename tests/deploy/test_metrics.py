"""docs/metrics.md and what the code registers are the same: names, types, labels, and whose they are."""

import re

import pytest

import sources
from sources import ROOT

# Of the `prometheus` crate's own collector.
PROCESS = {"process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes",
           "process_start_time_seconds", "process_threads", "process_virtual_memory_bytes"}

# How metrics are registered: by a macro, or by a constructor. Only those that end in Vec have labels.
REGISTERED = re.compile(
    r"\b(?:register_(?P<macro>\w+)!"
    r"|(?P<made>Int(?:Counter|Gauge)(?:Vec)?|(?:Counter|Gauge|Histogram)(?:Vec)?)::new"
    r"|(?P<counters>counters))"
    r"\(\s*(?:Opts::new\(\s*)?\"(?P<name>[a-z_]+)\"")
# Options of their own, and after them what is made of them.
OPTIONS = re.compile(r"let options = (?:Histogram)?Opts::new\(\s*\"(?P<name>[a-z_]+)\".*?(?P<made>\w+Vec)::new\(", re.S)


def kind(text):
    found = re.search("counter|gauge|histogram", text.lower())
    assert found, text
    return found[0]


def registered():
    """{name: (type, labels, whose)} of the sources."""
    found = {}
    for path in sorted(ROOT.glob("crates/*/src/**/*.rs")) + sorted(ROOT.glob("services/*/src/**/*.rs")):
        source = sources.without_tests(path.read_text())
        place = path.relative_to(ROOT).parts
        whose = "all" if place[0] == "crates" else place[1]
        for match in list(REGISTERED.finditer(source)) + list(OPTIONS.finditer(source)):
            groups = match.groupdict()
            maker = groups.get("macro") or groups.get("made") or "CounterVec"
            labels = ()
            if maker.lower().endswith("vec"):
                labels = tuple(re.findall(r'"(\w+)"', re.search(r"&\[([^\]]*)\]", source[match.end():])[1]))
            assert match["name"] not in found, f"{match['name']} is registered twice"
            found[match["name"]] = (kind(maker), labels, whose)
    return found


def documented(text):
    """The same of the tables."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and (name := re.fullmatch(r"`([a-z_]+)`", cells[0])):
            assert cells[4], f"{name[1]} has no meaning"
            assert name[1] not in found, f"{name[1]} stands there twice"
            found[name[1]] = (cells[1], tuple(re.findall(r"`(\w+)`", cells[2])), cells[3])
    return found


def test_the_table_is_what_the_code_registers():
    table = documented(sources.text("docs/metrics.md"))
    assert {name for name in table if name.startswith("process_")} == PROCESS
    ours = {name: row for name, row in table.items() if name not in PROCESS}
    code = registered()
    assert len(code) > 40, "metrics are registered in a way that this test does not read"
    assert ours == code


def test_nothing_is_registered_in_a_way_that_is_not_read():
    code = set(registered())
    for path in list(ROOT.glob("crates/*/src/**/*.rs")) + list(ROOT.glob("services/*/src/**/*.rs")):
        source = sources.without_tests(path.read_text())
        # A text that looks like a counter's name is one.
        names = set(re.findall(r'"([a-z]+(?:_[a-z]+)+_total)"', source))
        assert names <= code, f"{path}: {names - code}"


@pytest.mark.parametrize("good, bad", [
    ("| `lote_build_info` ", "| `lote_built_info` "),
    ("| `lote_build_info` | gauge ", "| `lote_build_info` | counter "),
    ("| `queue`, `state` ", "| `queue` "),
    ("| report | ", "| etl | "),
])
def test_a_table_that_is_wrong_is_found(good, bad):
    text = sources.text("docs/metrics.md")
    assert good in text
    table = documented(text.replace(good, bad, 1))
    assert {name: row for name, row in table.items() if name not in PROCESS} != registered()


def test_alerts_and_dashboards_ask_for_what_there_is():
    """Whatever begins as ours do. Exporters' metrics are not ours to know."""
    known = set(registered()) | PROCESS
    histograms = {name for name, (what, _, _) in registered().items() if what == "histogram"}
    known |= {f"{name}_{end}" for name in histograms for end in ("bucket", "sum", "count")}
    prefixes = "|".join(sorted({name.split("_")[0] for name in registered()}))
    asked = set()
    for path in list(ROOT.glob("deploy/prometheus/*.yml")) + list(ROOT.glob("deploy/grafana/**/*.json")):
        for expression in re.findall(r'"?expr"?:\s*(.+)', path.read_text()):
            asked |= set(re.findall(rf"\b(?:{prefixes})_[a-z_]+\b(?!\s*=)", expression))
    assert asked and asked <= known, asked - known
