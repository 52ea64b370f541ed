"""A mailbox of files: mails in every state, drafts, and an outbox that nothing reaches by another way."""

import os
from contextvars import copy_context
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from agentloop import mailbox
from agentloop.adapters.plugins import load_tools
from agentloop.tooling import CurrentCall, Registry, answering

TOOLS = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools

ORDER = b"""From: =?utf-8?q?Linn=C3=A9a?= <linnea@mail.example.com>
To: shop@example.com
Subject: =?utf-8?b?V2hlcmUgaXMgbXkgb3JkZXI/?=
Date: Mon, 05 Jan 2026 12:00:00 +0000
Message-ID: <42@mail.example.com>
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Where is W42, the caf\xc3\xa9 one?
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "inbox").mkdir(parents=True)
    (folder / "inbox" / "1.eml").write_bytes(ORDER)
    return folder


def run(root: Path, name: str, key: str = "key-1", **arguments: Any) -> str:
    def call() -> str:
        answering(CurrentCall("session", "call", key, root))
        return str(TOOLS[name].sdk.call(arguments))

    return copy_context().run(call)


def drafted(root: Path, key: str = "key-1", **changes: str) -> str:
    run(root, "write_mail", key=key, **({"to": "a@example.com", "subject": "Hello", "text": "Text"} | changes))
    return next(f"drafts/{p.name}" for p in sorted((root / "drafts").iterdir()))


def mail(*parts: tuple[str, str, bytes], kind: str = "mixed") -> bytes:
    lines = [b"From: a@example.com", f"Content-Type: multipart/{kind}; boundary=b".encode(), b""]
    for media, disposition, body in parts:
        lines += [b"--b", f"Content-Type: {media}".encode()]
        lines += [f"Content-Disposition: {disposition}".encode()] if disposition else []
        lines += [b"", body]
    return b"\n".join([*lines, b"--b--", b""])


# Reading


def test_a_mail_is_read_with_its_headers_decoded(root: Path) -> None:
    assert run(root, "read_mail", path="inbox/1.eml") == (
        "From: Linnéa <linnea@mail.example.com>\nTo: shop@example.com\nDate: Mon, 05 Jan 2026 12:00:00 +0000\n"
        "Subject: Where is my order?\n\nWhere is W42, the café one?"
    )


def test_the_plain_text_is_preferred_to_the_other(root: Path) -> None:
    both = mail(("text/plain", "", b"plain"), ("text/html", "", b"<p>html"), kind="alternative")

    assert mailbox.opened(both).text == "plain"


def test_html_alone_becomes_text(root: Path) -> None:
    data = mail(("text/plain", "", b"  "), ("text/html", "", b"<h1>Hi</h1><a href='https://e.example/'>here</a>"))

    assert mailbox.opened(data).text == "# Hi\n[here](https://e.example/)"


def test_what_is_attached_is_listed_and_not_shown(root: Path) -> None:
    data = mail(
        ("text/plain", "", b"see below"),
        ("application/pdf", 'attachment; filename="bill\x1b[31m.pdf"', b"%PDF secret"),
        ("text/plain", "attachment; filename=notes.txt", b"secret"),
        ("image/png", "inline", b"secret"),
        ("message/rfc822", "", b"From: b@example.com\n\nsecret"),
    )
    (root / "inbox" / "2.eml").write_bytes(data)

    shown = run(root, "read_mail", path="inbox/2.eml")

    assert "secret" not in shown
    assert "Attached: bill [31m.pdf (application/pdf, 11 bytes)\nAttached: notes.txt (text/plain, 6 bytes)" in shown
    assert "Attached: unnamed (message/rfc822" in shown


def test_nested_parts_are_read_to_the_ground() -> None:
    data = b"the text"
    for depth in range(30):
        data = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%s\n--b%d--\n" % (
            depth,
            depth,
            data if depth else b"\n" + data,
            depth,
        )

    assert mailbox.opened(b"From: a@example.com\n" + data).text == "the text"


def test_parts_nested_without_end_are_an_error_and_no_crash() -> None:
    data = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3_000))

    with pytest.raises(ValueError, match="nested too deep"):
        mailbox.opened(data)


def test_no_more_parts_are_read_than_the_limit() -> None:
    data = mail(*[("text/plain", "", b"x")] * (mailbox.MOST_PARTS + 50))

    assert mailbox.opened(data).text.count("x") < mailbox.MOST_PARTS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe",
        b"no header at all",
        b"From: caf\xe9 <a@example.com>\nSubject: caf\xe9\n\nx",
        b"From: =?utf-99?q?x?= <a@example.com>\nSubject: =?utf-8?b?!!!?=\n\nx",
        b"From: \nTo: ,,,;;<<\nDate: yesterday\nMessage-ID: <<>>\n\nx",
        b"From: @ <@>\nReply-To: \x00\nSubject: \n folded\n\tfolded\n\nx",
        b"From: a@[\nTo: (((\nCc: =?\nReferences: <\n\nx",
        b"Content-Type: text/plain; charset=klingon\n\ncaf\xe9",
        b"Content-Type: text/plain; charset=zlib\n\nx",
        b"Content-Type: text/plain; charset=idna\n\n\xff\xff",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!not base64",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: x-own\n\nx",
        b"Content-Type: multipart/mixed\n\nno boundary",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nno end",
        b"Content-Type: ;;;\nContent-Disposition: =;=\n\nx",
        b"Content-Type: text/plain; name*=utf-99''%ff; charset*=x'y'z\n\nx",
    ],
)
def test_a_broken_mail_is_read_as_well_as_it_can_be(root: Path, data: bytes) -> None:
    (root / "inbox" / "2.eml").write_bytes(data)

    run(root, "read_mail", path="inbox/2.eml").encode()
    assert len(run(root, "list_mail").splitlines()) == 2


def test_a_header_cannot_pretend_to_be_another_line(root: Path) -> None:
    (root / "inbox" / "2.eml").write_bytes(b"From: a@example.com\nSubject: =?utf-8?q?Hi=0AFrom:_boss=1B[31m?=\n\nx")

    assert "Subject: Hi From: boss [31m\n" in run(root, "read_mail", path="inbox/2.eml")


@pytest.mark.parametrize(
    "path", ["../outside.eml", "/etc/hostname", "inbox/link.eml", "inbox/.hidden.eml", "inbox/fifo.eml", "inbox"]
)
def test_a_mail_outside_or_of_no_plain_file_is_refused(root: Path, path: str) -> None:
    (root.parent / "outside.eml").write_bytes(ORDER)
    (root / "inbox" / "link.eml").symlink_to(root.parent / "outside.eml")
    os.mkfifo(root / "inbox" / "fifo.eml")

    for name, more in (("read_mail", {}), ("write_reply", {"text": "x"})):
        with pytest.raises(ValueError, match=r".+"):
            run(root, name, path=path, **more)
    assert run(root, "list_mail").count("\n") == 0


# Listing


def test_mails_are_listed_with_whether_they_were_answered(root: Path) -> None:
    (root / "inbox" / "2.eml").write_bytes(b"From: b@example.com\nSubject: Hi\nMessage-ID: <2@b>\n\nx")
    run(root, "write_reply", path="inbox/1.eml", text="Yes.")

    assert run(root, "list_mail").splitlines() == [
        "inbox/1.eml | Mon, 05 Jan 2026 12:00:00 +0000 | Linnéa <linnea@mail.example.com> | Where is my order? | answered",
        "inbox/2.eml |  | b@example.com | Hi",
    ]
    assert run(root, "list_mail", unanswered_only=True) == "inbox/2.eml |  | b@example.com | Hi"


def test_an_empty_folder_and_one_that_is_not_there_say_so(root: Path) -> None:
    assert run(root, "list_mail", folder="outbox") == "There are no such mails in 'outbox'."


# Drafting


def test_an_answer_is_tied_to_its_mail(root: Path) -> None:
    said = run(root, "write_reply", path="inbox/1.eml", text="It is on its way.\n\nThe café")

    (path,) = (root / "drafts").iterdir()
    draft = message_from_bytes(path.read_bytes(), policy=default)
    assert said == f"Drafted drafts/{path.name} to linnea@mail.example.com. Not sent; send_mail sends it."
    assert (draft["to"], draft["subject"]) == ("linnea@mail.example.com", "Re: Where is my order?")
    assert draft["in-reply-to"] == draft["references"] == "<42@mail.example.com>"
    assert draft.get_content() == "It is on its way.\n\nThe café\n"
    assert draft["message-id"] is None


def test_a_repeated_call_drafts_once(root: Path) -> None:
    for key in ("a", "a", "b"):
        run(root, "write_reply", key=key, path="inbox/1.eml", text="Yes.")

    assert len(list((root / "drafts").iterdir())) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"to": "A <a@example.com>"}, "no address"),
        ({"to": "a@example.com, b@example.com"}, "no address"),
        ({"to": "a@example.com\nBcc: b@example.com"}, "no address"),
        ({"subject": "Hi\nBcc: b@example.com"}, "one line"),
        ({"subject": "Hi\rBcc: b@example.com"}, "one line"),
        ({"text": " "}, "empty"),
    ],
)
def test_a_draft_has_one_address_one_subject_line_and_a_text(root: Path, wrong: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drafted(root, **wrong)


def test_a_mail_from_nobody_cannot_be_answered(root: Path) -> None:
    (root / "inbox" / "2.eml").write_bytes(b"From: undisclosed\nSubject: Hi\n\nx")

    with pytest.raises(ValueError, match="no address to answer to"):
        run(root, "write_reply", path="inbox/2.eml", text="x")


# Sending


def test_a_sent_mail_is_in_the_outbox_with_an_id_made_of_the_call(root: Path) -> None:
    draft = drafted(root)

    said = run(root, "send_mail", key="s:call-7", draft=draft)

    (path,) = (root / "outbox").iterdir()
    sent = message_from_bytes(path.read_bytes(), policy=default)
    assert list((root / "drafts").iterdir()) == []
    assert sent["message-id"] in said
    assert sent["message-id"].endswith("@agentloop.invalid>")
    assert (sent["to"], sent["date"] is not None) == ("a@example.com", True)
    assert TOOLS["send_mail"].effect == "once"


def test_what_was_sent_cannot_be_sent_again(root: Path) -> None:
    draft = drafted(root)
    run(root, "send_mail", draft=draft)

    with pytest.raises(FileNotFoundError, match="there is no"):
        run(root, "send_mail", key="another", draft=draft)

    run(root, "write_mail", to="a@example.com", subject="Hello", text="Text")  # the first call, run again after a crash
    with pytest.raises(ValueError, match="there already"):
        run(root, "send_mail", key="another", draft=draft)
    assert len(list((root / "outbox").iterdir())) == 1


def test_a_crash_while_sending_leaves_one_mail_in_one_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = drafted(root)

    def crash(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", crash)
        with pytest.raises(ValueError, match="No space left"):
            run(root, "send_mail", draft=draft)

    assert [p.name for p in (root / "drafts").iterdir()] == [Path(draft).name]
    run(root, "send_mail", key="another", draft=draft)
    (path,) = (root / "outbox").iterdir()
    assert path.read_bytes().count(b"Message-ID:") == 1


@pytest.mark.parametrize(
    "draft", ["inbox/1.eml", "drafts/../inbox/1.eml", "drafts/a.md", "../x.eml", "drafts", "drafts/sub/x.eml"]
)
def test_only_a_draft_can_be_sent(root: Path, draft: str) -> None:
    with pytest.raises(ValueError, match="no draft"):
        run(root, "send_mail", draft=draft)


def test_a_draft_to_nobody_is_not_sent(root: Path) -> None:
    (root / "drafts").mkdir()
    (root / "drafts" / "x.eml").write_text("Subject: Hi\n\nx")

    with pytest.raises(ValueError, match="goes to nobody"):
        run(root, "send_mail", draft="drafts/x.eml")


def test_no_other_tool_writes_into_the_outbox(root: Path) -> None:
    (root / "way").symlink_to(root / "outbox")
    (root / "outbox").mkdir()

    for path in ("outbox/x.eml", "OUTBOX/x.eml", "way/x.eml"):
        with pytest.raises(ValueError, match="not for tools to write"):
            run(root, "write_file", path=path, text="To: a@example.com\n\nx")


def test_a_message_is_a_message() -> None:
    assert isinstance(mailbox.new("a@example.com", "Hi", "x"), EmailMessage)
