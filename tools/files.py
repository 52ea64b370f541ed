"""Read, search and write the files of the working folder."""

from agentloop import current_call, tool
from agentloop.rooted import MAX_BYTES, files_in, read_text, write_text

MOST_FILES = 500
MOST_LINES = 1_000


@tool(effect="read")
def list_files(folder: str = ".") -> str:
    """List every file below a folder, with its size in bytes. Start here when you do not know what there is.

    Args:
        folder: The folder, relative to the working folder, such as "inbox"; the whole working folder by default.
    """
    found = files_in(current_call().root, folder)
    lines = [f"{f.path} (empty)" if f.path.endswith("/") else f"{f.path}  {f.bytes:,}" for f in found[:MOST_FILES]]
    if len(found) > MOST_FILES:
        lines.append(f"[{len(found) - MOST_FILES} more; name a folder further down]")
    return "\n".join(lines) or f"There are no files in '{folder}'."


@tool(effect="read")
def read_file(path: str, first_line: int = 1, last_line: int | None = None) -> str:
    """Read a text file, whole or a range of its lines. Several files are best read by several calls in one turn.

    Args:
        path: The file, relative to the working folder, such as "site/returns.md".
        first_line: The first line to read; lines count from 1.
        last_line: The last line to read, included; the end of the file by default.
    """
    text = read_text(current_call().root, path)
    lines = text.splitlines()
    if not lines:
        return f"'{path}' is empty."
    if not 1 <= first_line <= len(lines):
        raise ValueError(f"'{path}' has {len(lines):,} lines; first_line {first_line} is not one of them")
    if last_line is not None and last_line < first_line:
        raise ValueError(f"last_line {last_line} comes before first_line {first_line}")
    part = "\n".join(lines[first_line - 1 : last_line])
    return part if part.strip() else f"Lines {first_line} to {last_line or len(lines)} of '{path}' are blank."


@tool(effect="read")
def search_files(words: str, folder: str = ".", limit: int = 200) -> str:
    """Find the lines that hold all of the given words, each shown as path:line number: text.

    Args:
        words: Plain words, such as "W2378156 refund". A line is found when it holds every one of them, in any order,
            in upper or lower case. Not a regular expression.
        folder: The folder, or the one file, to search; the whole working folder by default.
        limit: The most lines to show, up to 1000; the rest is counted.
    """
    wanted = words.casefold().split()
    if not wanted:
        raise ValueError("words is empty; give at least one word to search for")
    root = current_call().root
    found = [f for f in files_in(root, folder) if not f.path.endswith("/")]
    paths = [f.path for f in found if f.bytes <= MAX_BYTES]
    hits = [hit for path in paths for hit in _hits(path, read_text(root, path), wanted)]
    shown = hits[: max(1, min(limit, MOST_LINES))]
    if len(shown) < len(hits):
        shown.append(f"[{len(hits) - len(shown)} more lines; use more words or name a file]")
    if len(paths) < len(found):
        shown.append(f"[{len(found) - len(paths)} files are too large and were not searched]")
    return "\n".join(shown) or f"No line in {len(paths)} files holds all of: {', '.join(wanted)}."


@tool(effect="idempotent")
def write_file(path: str, text: str) -> str:
    """Write a whole text file: a new one, or in place of the one that stands there. Read it first if it may exist.

    Args:
        path: The file, relative to the working folder, such as "drafts/article.md".
        text: The complete new text of the file.
    """
    size = write_text(current_call().root, path, text)
    return f"Wrote {path}: {len(text.splitlines())} lines, {size:,} bytes."


@tool
def replace_text(path: str, old: str, new: str) -> str:
    """Replace one passage of a text file and leave the rest as it is. For long files: nothing else has to be repeated.

    Args:
        path: The file, relative to the working folder, such as "site/box.html".
        old: The passage exactly as it stands there, lines and spaces too. It must stand there once and no more.
        new: What takes its place; nothing, to take the passage out.
    """
    text = read_text(current_call().root, path)
    if not old or (times := text.count(old)) != 1:
        found = f"stands in '{path}' {times:,} times" if old else "is empty"
        raise ValueError(f"old {found}; give a passage that stands there exactly once, as read_file shows it")
    write_text(current_call().root, path, text.replace(old, new))
    return f"Replaced in {path}, line {text[: text.index(old)].count(chr(10)) + 1}."


def _hits(path: str, text: str, wanted: list[str]) -> list[str]:
    if "\0" in text:  # no text: a database, a picture
        return []
    return [
        f"{path}:{number}: {line}"
        for number, line in enumerate(text.splitlines(), 1)
        if all(word in line.casefold() for word in wanted)
    ]
