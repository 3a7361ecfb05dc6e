"""Hints: cut the true trace into chunks, choose some, put them at their own positions."""

from igpo_lightning.inpainting.hints import choose_hints, chunk_trace, draw_ratio

__all__ = ["choose_hints", "chunk_trace", "draw_ratio"]
