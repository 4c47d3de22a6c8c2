"""The operator's commands, one file a command: each calls the control API and prints what it says.

Module level imports stay light (click and the control values), so that `crossfade --help` is quick; what draws
or talks is imported where it is used.
"""
