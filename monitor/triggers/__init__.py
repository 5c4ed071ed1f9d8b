"""How the monitor asks for a training: a command, a signed webhook, a topic, or a template.

`settings.py` says what can be set, `compose.py` makes the trigger of it, `hooks.py` asks
until it is answered; `core/` holds what needs no world.
"""
