"""Programs of this machine, those that a person has allowed."""

from agentloop import commands, current_call, tool
from agentloop.allowed import allowed


@tool(timeout_s=90)
def run_command(program: str, arguments: list[str]) -> str:
    """Run a program in the working folder and show what it says. At most a minute; its input is empty.

    There is no shell: no pipes, no wildcards, no variables, no "&&". Each argument is handed over exactly as it is given.

    Args:
        program: The program's name, such as "git". Only programs that a person has allowed can be run.
        arguments: Its arguments, one by one, such as ["log", "--oneline", "-5"].
    """
    root = current_call().root
    names = allowed(root, commands.COMMANDS_FILE, commands.COMMANDS_VARIABLE)
    ran = commands.run(program, arguments, root, names)
    ended = f"exit code {ran.code}" if ran.code is not None else f"ended after {commands.LIMIT_S:g} seconds, unfinished"
    parts = [f"[{ended}]", ran.out.rstrip("\n"), f"[standard error]\n{ran.err}".rstrip("\n") if ran.err else ""]
    if ran.dropped:
        parts.append(f"[{ran.dropped:,} more bytes of output were dropped]")
    return "\n".join(part for part in parts if part)
