# SPDX-License-Identifier: Apache-2.0
"""The control channel of guests: its lines, and the guest's side of it in a real shell."""

import base64
import socket
import threading

import pytest

from cloudlb.lab.console import ask, parse_answer, request_line


def answer_line(token, status, output="-", errors="-"):
    return f"{token} {status} {output} {errors}\n".encode()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_request_begins_a_new_line_and_hides_the_commands_own_lines():
    line = request_line("t1", "echo 'a\nb'", 3.4)
    assert line == b"\nt1 3 " + base64.b64encode(b"echo 'a\nb'") + b"\n"


def test_answer_has_status_output_and_errors():
    line = answer_line("t1", 7, encoded("out\n"), encoded("err"))
    assert parse_answer(line, "t1") == (7, "out\n", "err")


def test_dash_is_an_empty_text():
    assert parse_answer(answer_line("t1", 0), "t1") == (0, "", "")


@pytest.mark.parametrize("line", [b"", b"garbage", b"t0 0 - -\n", b"t1 0 -\n", b"\xff\xfe"])
def test_line_that_is_no_answer_to_the_token_is_passed_over(line):
    assert parse_answer(line, "t1") is None


@pytest.fixture
def guest_socket(tmp_path):
    """A listening socket in the place of a guest's serial port."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vm"))
        listener.listen()
        yield listener


def serve(listener, make_answer):
    def run():
        peer, _ = listener.accept()
        with peer:
            token = peer.recv(4096).split()[0].decode()
            peer.sendall(make_answer(token))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_late_answer_to_an_earlier_request_is_passed_over(guest_socket, tmp_path):
    thread = serve(guest_socket, lambda token: answer_line("old", 1) + answer_line(token, 0))
    assert ask(tmp_path / "vm", "true", 5) == (0, "", "")
    thread.join()


def test_guest_that_goes_away_is_a_connection_error(guest_socket, tmp_path):
    thread = serve(guest_socket, lambda token: b"half an ans")
    with pytest.raises(ConnectionError):
        ask(tmp_path / "vm", "true", 5)
    thread.join()


def test_guest_that_is_off_is_a_connection_error(tmp_path):
    with pytest.raises(ConnectionError):
        ask(tmp_path / "vm", "true", 5)


def test_silent_guest_is_a_timeout(guest_socket, tmp_path):
    with pytest.raises(TimeoutError):
        ask(tmp_path / "vm", "true", 0.05, grace=0)
