"""``nucleate relay``: what it refuses before anything listens."""

import socket


def test_wrong_words_are_refused_before_anything_listens(nucleate, uri_profile):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = nucleate("relay", "--store", uri_profile, "--listen", f"127.0.0.1:{port}")
    assert (ran.code, f"can't listen on 127.0.0.1:{port}" in ran.err) == (2, True)
    ran = nucleate("relay", "--store", uri_profile, "--allow", "10.1.0.1/16")
    assert (ran.code, "--allow wants networks" in ran.err) == (2, True)
    ran = nucleate("relay", "--store", uri_profile, "--listen", "login1")
    assert (ran.code, "no HOST:PORT" in ran.err) == (2, True)
    ran = nucleate("relay", "--store", "embedded")
    assert (ran.code, "this host alone" in ran.err) == (2, True)
    ran = nucleate("relay", "--store", "nobody")
    assert (ran.code, "unknown store 'nobody'" in ran.err) == (2, True)
