# SPDX-License-Identifier: Apache-2.0
"""What the documentation says can be done, can be done; what it names, exists."""

import configparser
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from reno.config import Config

from cloudlb.conf import list_opts
from cloudlb.lab import cli

ROOT = Path(__file__).parents[2]
DOC = ROOT / "doc" / "source"
PAGES = [ROOT / "README.md", *sorted(DOC.rglob("*.rst"))]
ETC = ROOT / "etc" / "cloudlb"
NOTES = sorted((ROOT / "releasenotes" / "notes").glob("*.yaml"))
LAB = ("lab", "cloudlb-lab", ".venv/bin/cloudlb-lab")
COMMANDS = {
    tuple(point.name.split("_")): point for point in entry_points(group="openstack.anycast.v1")
}
MARK = re.compile(r"requirement\(\s*\"(\w+)\"")
TERM = re.compile(r"^   ([A-Z]\d+)$\n((?:^ {6}.*$\n?|^$\n?)+)", re.MULTILINE)


def lines(page: Path) -> list[list[str]]:
    """The words of every line that a reader of the page types: after ``$`` or ``#``."""
    text = page.read_text().replace("\\\n", " ")
    console = [part for part in re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    console += re.findall(r"code-block:: console\n\n((?: +.*\n|\n)+)", text)
    typed = re.findall(r"^ *[$#] (.+)$", "\n".join(console), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in typed if "$(" not in line]


def typed(*programs: str) -> list[tuple[str, list[str]]]:
    """Page and arguments of every use of a program, also inside of a lab's host."""
    return [
        (page.name, command[1:])
        for page in PAGES
        for words in lines(page)
        for command in (words, _in_lab(words))
        if command and command[0] in programs
    ]


def _in_lab(words: list[str]) -> list[str]:
    return words[3:] if words[0] in LAB and words[1:2] == ["exec"] else []


def requirements() -> dict[str, str]:
    """The text of every requirement, by its id."""
    pages = sorted((DOC / "requirements").glob("*.rst"))
    return dict(pair for page in pages for pair in TERM.findall(page.read_text()))


def tracked() -> list[Path]:
    """The files of the repository that are text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


def test_the_makefile_has_every_target_that_a_page_names():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for _, words in typed("make") if words}
    assert {"demo", "test"} <= named <= targets


def test_the_readme_begins_with_the_two_commands():
    first = lines(ROOT / "README.md")[:2]
    assert first == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize(("page", "words"), typed(*LAB), ids=lambda value: str(value)[:60])
def test_the_lab_takes_every_command_that_a_page_names(page, words):
    assert callable(cli.parser().parse_args(words).action), page


@pytest.mark.parametrize(("page", "words"), typed("openstack"), ids=lambda value: str(value)[:60])
def test_the_openstack_client_takes_every_command_that_a_page_names(page, words):
    length = max((n for n in range(1, 5) if tuple(words[:n]) in COMMANDS), default=0)
    assert length, f"{page}: no command begins {words[:4]}"
    parser = COMMANDS[tuple(words[:length])].load()(None, None).get_parser("openstack")
    assert parser.parse_args(words[length:]), page


def test_the_list_of_commands_in_the_documentation_is_complete():
    text = (DOC / "user" / "cli.rst").read_text().partition("All commands\n")[2]
    named = {
        (*noun.split(), verb.strip())
        for noun, verbs in re.findall(
            r"^    *openstack (anycast [a-z ]+?) ((?:\w+ \| )*\w+)$", text, re.M
        )
        for verb in verbs.split("|")
    }
    assert named == set(COMMANDS)


@pytest.mark.parametrize(
    "option", [option for _, options in list_opts() for option in options], ids=lambda o: o.name
)
def test_every_option_is_explained(option):
    assert len(option.help) >= 40
    assert option.help.endswith(".")


@pytest.mark.parametrize(
    ("program", "settings", "expected"),
    [
        ("oslo-config-generator", "cloudlb-config-generator.conf", "#network_mappings ="),
        ("oslopolicy-sample-generator", "cloudlb-policy-generator.conf", '#"pool:create"'),
    ],
)
def test_samples_can_be_generated(program, settings, expected, tmp_path):
    sample = tmp_path / "sample"
    generator = [str(Path(sys.prefix) / "bin" / program), f"--config-file={ETC / settings}"]
    subprocess.run([*generator, f"--output-file={sample}"], check=True, capture_output=True)
    assert expected in sample.read_text()


@pytest.mark.parametrize("path", sorted(ETC.glob("cloudlb.conf.*")), ids=lambda path: path.suffix)
def test_configurations_name_options_that_exist(path):
    known = {
        (group or "DEFAULT", option.name) for group, options in list_opts() for option in options
    }
    known |= {("DEFAULT", "transport_url"), ("database", "connection")}
    parser = configparser.RawConfigParser(default_section="")
    parser.read(path)
    named = {(group, name) for group in parser.sections() for name in parser[group]}
    assert named <= known


def test_requirements_have_numbers_of_their_own_without_gaps():
    pages = "".join(p.read_text() for p in (DOC / "requirements").glob("*.rst"))
    ids = [name for name, _ in TERM.findall(pages)]
    assert len(ids) == len(set(ids))
    for letter in {name[0] for name in ids}:
        numbers = sorted(int(name[1:]) for name in ids if name[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1)), letter


def test_every_requirement_that_a_test_shows_is_documented():
    marked = {
        name for path in (ROOT / "tests").rglob("*.py") for name in MARK.findall(path.read_text())
    }
    assert marked
    assert marked <= set(requirements())


def test_every_requirement_that_is_called_shown_has_a_test():
    marked = {
        name for path in (ROOT / "tests").rglob("*.py") for name in MARK.findall(path.read_text())
    }
    assert {name for name, text in requirements().items() if "**Shown" in text} <= marked


@pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)
def test_release_notes_are_lists_of_sentences_in_known_sections(path):
    note = yaml.safe_load(path.read_text())
    sections = {section.name for section in Config(str(ROOT)).sections}
    for name, said in note.items():
        if name != "prelude":
            assert name in sections
            assert all(isinstance(each, str) for each in said)


def test_no_file_names_a_place_of_one_machine_or_a_package_index():
    place = "|".join(("[^.]/" + "work/", r"\.\./" + "shared", "index" + "-url", "PIP_" + "INDEX"))
    pattern = re.compile(place + "|pypi[.]" + "org|/simple" + "/")
    found = {path.relative_to(ROOT): pattern.search(path.read_text()) for path in tracked()}
    assert {path: hit[0] for path, hit in found.items() if hit} == {}
