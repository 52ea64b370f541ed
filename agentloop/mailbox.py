"""Mails as files: what a mail says, in whatever state it arrived, and the answer to it.

Mails come from strangers. Broken encodings, nested parts and headers that break the rules are read as well as they can be.
"""

import email
import re
from collections.abc import Iterator
from datetime import datetime
from email.message import EmailMessage, Message
from email.policy import default
from email.utils import format_datetime, getaddresses
from typing import NamedTuple

from agentloop.html_text import readable

MOST_PARTS = 1_000
ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]\\]+@[^@\s<>,;:\"()\[\]\\]+")

_SHOWN = ("text/plain", "text/html")
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What the standard library raises for one or another broken header."""


class Mail(NamedTuple):
    """What a mail says."""

    sender: str
    to: str
    cc: str
    reply_to: str
    subject: str
    date: str
    message_id: str
    in_reply_to: str
    references: str
    text: str
    attachments: tuple[str, ...]
    """Name, type and size of each; never its content."""


def opened(data: bytes) -> Mail:
    """What a mail says. Raises ValueError for parts nested without end."""
    try:
        message = email.message_from_bytes(data, policy=default)
        text, attachments = _contents(message)
    except RecursionError:
        raise ValueError("the mail's parts are nested too deep to be read") from None
    return Mail(
        sender=_header(message, "from"),
        to=_header(message, "to"),
        cc=_header(message, "cc"),
        reply_to=_header(message, "reply-to"),
        subject=_header(message, "subject"),
        date=_header(message, "date"),
        message_id=_header(message, "message-id"),
        in_reply_to=_header(message, "in-reply-to"),
        references=_header(message, "references"),
        text=text,
        attachments=attachments,
    )


def addresses(header: str) -> tuple[str, ...]:
    """The plain addresses of a header, without names."""
    return tuple(address for _, address in getaddresses([header]) if ADDRESS.fullmatch(address))


def new(to: str, subject: str, body: str) -> EmailMessage:
    """A mail that has not been sent: no date, no id. Raises ValueError for an address or a subject that is none."""
    if not ADDRESS.fullmatch(to):
        raise ValueError(f"'{to}' is no address; give one such as name@example.com, without a name")
    if len(subject.splitlines()) != 1 or not subject.strip():
        raise ValueError("the subject must be one line")
    if not body.strip():
        raise ValueError("the text is empty; write what the mail is to say")
    message = EmailMessage(policy=default.clone(utf8=True))
    message["To"] = to
    message["Subject"] = subject.strip()
    message.set_content(body.strip() + "\n")
    return message


def reply(mail: Mail, body: str) -> EmailMessage:
    """The answer to a mail, to whoever is to have it, tied to the mail by its id. Raises ValueError where there is nobody."""
    to = addresses(mail.reply_to) or addresses(mail.sender)
    if not to:
        raise ValueError(f"the mail names no address to answer to (from: '{mail.sender}')")
    subject = mail.subject if mail.subject.casefold().startswith("re:") else f"Re: {mail.subject}".strip()
    message = new(to[0], subject, body)
    if mail.message_id:
        message["In-Reply-To"] = mail.message_id
        message["References"] = " ".join([*mail.references.split()[-20:], mail.message_id])
    return message


def sealed(draft: bytes, message_id: str, at: datetime) -> bytes:
    """A draft made ready to go out, with its id and its date."""
    message = email.message_from_bytes(draft, policy=default.clone(utf8=True))
    for name, value in (("Message-ID", message_id), ("Date", format_datetime(at))):
        del message[name]
        message[name] = value
    return message.as_bytes()


def _contents(message: Message) -> tuple[str, tuple[str, ...]]:
    """The text a person would read, the plain one first, and what is attached."""
    plain: list[str] = []
    html: list[str] = []
    attached: list[str] = []
    for part in _parts(message):
        kind = part.get_content_type()
        try:
            if part.get_filename() or part.get_content_disposition() == "attachment" or kind not in _SHOWN:
                attached.append(_attachment(part))
            else:
                (plain if kind == "text/plain" else html).append(_text(part))
        except _BROKEN:
            attached.append(f"a part of type {kind} that cannot be read")
    text = "\n\n".join(t.strip() for t in plain if t.strip())
    return text or "\n\n".join(readable(t) for t in html).strip(), tuple(attached)


def _parts(message: Message) -> Iterator[Message]:
    """The parts that hold something themselves, in their order; a mail within a mail is one part."""
    waiting = [message]
    for _ in range(MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop()
        below = part.get_payload() if part.is_multipart() else None
        if isinstance(below, list) and part.get_content_maintype() == "multipart":
            waiting += [p for p in reversed(below) if isinstance(p, Message)]
        else:
            yield part


def _text(part: Message) -> str:
    data = part.get_payload(decode=True)
    data = data if isinstance(data, bytes) else b""
    try:
        return data.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, UnicodeError):  # a charset that there is not, or that is none
        return data.decode("utf-8", "replace")


def _attachment(part: Message) -> str:
    data = part.get_payload(decode=True)
    size = len(data) if isinstance(data, bytes) else len(str(part))
    return f"{_line(part.get_filename() or 'unnamed')} ({part.get_content_type()}, {size:,} bytes)"


def _header(message: Message, name: str) -> str:
    """A header in one line, decoded; as it stands in the mail where it cannot be."""
    try:
        return _line(str(message.get(name, "")))
    except _BROKEN:
        return _line(next((str(v) for k, v in message.raw_items() if k.lower() == name), ""))


def _line(text: str) -> str:
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
