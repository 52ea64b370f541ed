"""Mails as they lie in a mailbox: from a written text, with headers above it, to a message of RFC 5322.

Two headers are ours and are taken off: `Attach` names a file that hangs on the mail, `Html: only` says that the text is
HTML and that there is no other.
"""

from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import default
from email.utils import parseaddr

from agentloop.html_text import readable

_POLICY = default.clone(max_line_length=200)


def message(name: str, text: str, attachments: Mapping[str, str]) -> str:
    """The `.eml` file of one written mail; its id is made of its name and of its sender's host."""
    head, _, body = text.partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    html, attached = headers.pop("Html", ""), headers.pop("Attach", "")
    mail = EmailMessage(policy=_POLICY)
    for header, value in headers.items():
        mail[header] = value
    host = parseaddr(headers["From"])[1].rpartition("@")[2]
    mail["Message-ID"] = f"<{name}@{host}>"
    if html == "only":
        mail.set_content(body, subtype="html", cte="8bit")
    else:
        mail.set_content(readable(body) if html else body, cte="8bit")
    if html == "too":
        mail.add_alternative(body, subtype="html", cte="8bit")
        mail.set_boundary(f"alternative-{name}")
    if attached:
        _attach(mail, attached, attachments.get(attached, f"{attached} holds nothing.\n"))
        mail.set_boundary(f"mixed-{name}")
    return mail.as_bytes().decode("utf-8")


def _attach(mail: EmailMessage, name: str, content: str) -> None:
    kind = {"svg": "image/svg+xml", "csv": "text/csv"}.get(name.rpartition(".")[2], "application/octet-stream")
    maintype, _, subtype = kind.partition("/")
    mail.add_attachment(content.encode("utf-8"), maintype, subtype, filename=name)
