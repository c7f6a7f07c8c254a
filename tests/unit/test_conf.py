# SPDX-License-Identifier: Apache-2.0
"""A configuration that cannot be is told at the start, with its place and what would be right."""

from pathlib import Path

import pytest

from cloudlb import conf
from cloudlb.model.errors import Misconfigured


def _load(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cloudlb.conf"
    file.write_text(text)
    conf.load(["--config-file", str(file)], "cloudlb-tests")
    return file


def test_a_file_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, environment in ((["--config-file", "/no/file"], ""), ([], "/no/file")):
        monkeypatch.setenv("OS_CLOUDLB_CONFIG_FILES", environment)
        with pytest.raises(Misconfigured, match="There is no file /no/file; name one that exists"):
            conf.load(arguments, "cloudlb-tests")


def test_a_line_that_is_no_option_is_named_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cloudlb\.conf:2, No ':' or '=' found"):
        _load(tmp_path, "[api]\nbind_port 80\n")


@pytest.mark.parametrize(
    ("group", "line", "reason"),
    [
        ("api", "bind_port = http", "'http'. Expected: port value. Port that"),
        ("api", "threads = 1", "Should be greater than or equal to 2. Expected: integer value."),
        ("agent", "roles = boss", r"Valid values are \[director, compute\], but found 'boss'"),
        ("agent", "network_mappings = lan", "Value should be NAME:VALUE pairs"),
        ("DEFAULT", "host_down_time = soon", "'soon'. Expected: integer value. Seconds without"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_option(
    tmp_path: Path, group: str, line: str, reason: str
) -> None:
    name = line.split(" = ")[0]
    place = rf"^\[{group}\] {name} in {tmp_path}/cloudlb.conf is wrong: .*{reason}"
    with pytest.raises(Misconfigured, match=place):
        _load(tmp_path, f"[{group}]\n{line}\n")


def test_what_is_right_is_loaded(tmp_path: Path) -> None:
    _load(tmp_path, "[api]\nbind_port = 80\n")
    assert conf.load([], "cloudlb-tests").api.bind_port == 9890
