"""Rules that span groups, asked before torch is loaded; `settings` has those within a group."""

from igpo_lightning.checks.groups import validate

__all__ = ["validate"]
