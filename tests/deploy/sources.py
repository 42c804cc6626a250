"""What the code says: read from its sources, in one place. Whatever is not found where it is looked for stops the tests."""

import functools
import json
import math
import os
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def text(path):
    return (ROOT / path).read_text()


def without_tests(source):
    """Rust without its unit tests, comments and documentation."""
    source = source.split("#[cfg(test)]")[0]
    return re.sub(r"//.*", "", source)


# --- queues -----------------------------------------------------------------------------------------------------


@functools.cache
def queues():
    """Each queue of crates/contracts by name, with its transport: {"catalog.imports": "sqs", …}."""
    source = without_tests(text("crates/contracts/src/topology.rs"))
    found = dict(re.findall(
        r'pub const (\w+): Queue\s*=\s*Queue \{\s*name: "([^"]+)",\s*transport: Transport::\w+', source))
    transports = dict(re.findall(r'name: "([^"]+)",\s*transport: Transport::(\w+)', source))
    listed = re.findall(r"&queues::(\w+)", source.split("pub const QUEUES")[1])
    assert listed and sorted(listed) == sorted(found), "QUEUES and the queues that were read differ"
    return {name: transports[name].lower() for name in found.values()}


@functools.cache
def queues_of(service):
    """The queues that a service's app.rs lists."""
    source = without_tests(text(f"services/{service}/src/app.rs"))
    constants = re.findall(r"&(\w+)", re.search(r"const QUEUES: .*?= &\[(.*?)\]", source, re.S)[1])
    contracts = without_tests(text("crates/contracts/src/topology.rs"))
    names = dict(re.findall(r'pub const (\w+): Queue\s*=\s*Queue \{\s*name: "([^"]+)"', contracts))
    return [names[constant] for constant in constants]


# --- services ---------------------------------------------------------------------------------------------------


@functools.cache
def services():
    """The services and their roles, as tests/stack has them: {"gateway": ["api"], …}."""
    source = without_tests(text("tests/stack/src/services.rs"))
    found = re.findall(r'Spec \{ name: "([^"]+)", roles: &\[([^\]]*)\]', source)
    assert len(found) == int(re.search(r"pub const ALL: \[&Spec; (\d+)\]", source)[1])
    return {name: re.findall(r'"(\w+)"', roles) for name, roles in found}


def processes():
    """Each process by name, with its service and role."""
    for service, roles in services().items():
        for role in roles:
            yield (service if len(roles) == 1 else f"{service}-{role}"), service, role


# --- settings ---------------------------------------------------------------------------------------------------

NAME = r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"'


def names(source):
    return set(re.findall(NAME, without_tests(source)))


def binary(service):
    """The program of a service, as it was built last."""
    return ROOT / os.environ.get("LOTE_BINARIES", "target/debug") / f"lote-{service}"


@functools.cache
def default(name):
    """The number that a setting has where nobody says otherwise."""
    for path in sorted(ROOT.glob("services/*/src/config.rs")):
        source = without_tests(path.read_text())
        call = re.search(rf'"{name}",\s*(?:Duration::from_secs\()?([\d_* ]+)[,)]', source)
        if call:
            # Durations are written as products: 6 * 60 * 60.
            return math.prod(int(factor.replace("_", "")) for factor in call[1].split("*"))
        many = re.search(rf'several\("{name}", (\d+)\)', source)
        if many:
            return int(many[1])
    raise AssertionError(f"no setting {name} with a number as default")


def deadlines():
    """How long one delivery may be worked on, in seconds, by setting."""
    found = set()
    for path in ROOT.glob("services/*/src/config.rs"):
        found |= {name for name in names(path.read_text()) if name.endswith("_DEADLINE_SECONDS")}
    assert len(found) >= 5, found
    return {name: default(name) for name in found}


def event_deadline():
    """How long a handler of events may take, in seconds: the messaging crate's default policy."""
    source = without_tests(text("crates/messaging/src/policy.rs"))
    found = re.search(r"deadline: Duration::from_(secs|mins)\((\d+)\)", source)
    return int(found[2]) * {"secs": 1, "mins": 60}[found[1]]


def max_receives():
    return int(re.search(r"const MAX_RECEIVES: u32 = (\d+);", text("crates/messaging/src/sqs/mod.rs"))[1])


def prefixes():
    """The folders of the bucket that services write to, by the constants and formats that make keys."""
    found = set()
    for path in ROOT.glob("services/*/src/**/*.rs"):
        source = without_tests(path.read_text())
        found |= set(re.findall(r'const (?:PREFIX|FOLDER|CONTACT_FILES|AUDIENCE_FILES): &str = "([a-z-]+/)"', source))
        for several in re.findall(r"const PREFIXES: \[&str; \d+\] = \[(.*?)\]", source):
            found |= set(re.findall(r'"([a-z-]+/)"', several))
        found |= set(re.findall(r'object_key = format!\("([a-z-]+/)', source))
    return found


# --- documents --------------------------------------------------------------------------------------------------


def measured_megabytes(figure):
    """The largest of the megabytes of a row of docs/benchmarks.md."""
    for line in text("docs/benchmarks.md").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 2 and f"`{figure}`" in cells[1]:
            return max(int(number) for number in re.findall(r"(\d+) MB", cells[2]))
    raise AssertionError(f"docs/benchmarks.md has no {figure}")


def flows():
    """The table of flows of ARCHITECTURE.md: {(from, to)}, processes and servers by name."""
    section = text("ARCHITECTURE.md").split("## Who talks to whom")[1].split("\n## ")[0]
    found = set()
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) < 2 or cells[0] in ("from", "---"):
            continue
        for source in cells[0].split(", "):
            found |= {(source.strip("`"), target.strip("`")) for target in cells[1].split(", ")}
    assert len(found) > 20, found
    return found


def resources():
    return json.loads(text("deploy/aws/resources.json"))
