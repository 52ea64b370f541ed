"""A Messages API that answers from a script and bills like the real one: no key, no network, no cost."""

from agentloop.emulator.answers import Answer, ApiError, Pause
from agentloop.emulator.app import Emulator
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.faults import Faults
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.script import Function, Recording, Script, ScriptedReply
from agentloop.emulator.settings import EmulatorSettings

__all__ = [
    "Answer",
    "ApiError",
    "Emulator",
    "EmulatorSettings",
    "Faults",
    "Function",
    "ModelRow",
    "Pause",
    "Playbook",
    "Recording",
    "Script",
    "ScriptedReply",
]
