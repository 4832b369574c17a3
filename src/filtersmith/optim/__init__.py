"""Acting on somebody's optimizer.

What stands around it: `wrappers`, `groups`. Its schedules: `lr`, `beside`. Its steps: `hooks`, `steps`, `no_steps`;
what is at work in them: `hold`, `slower`. What it keeps of single filters: `state`; of everything: `beginning`; both
learned from scratch copies (`docs/architecture.md`).
"""
