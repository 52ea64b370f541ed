"""`emulator`: a Messages API on this machine."""
