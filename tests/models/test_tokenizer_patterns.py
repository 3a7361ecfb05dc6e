"""Which patterns of a tokenizer are tried before use: repeats inside repeats."""

import pytest

from igpo_lightning.models.tokenizer_patterns import has_nested_repeats

# Of GPT-2, GPT-4, o200k, DeepSeek, and one with marks of combining letters.
SOUND = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n]?[\p{L}\p{M}]+",
    r"(?=(\d{3})+(?!\d))",
    r"(?>a+)+x",
    r"(a++)+x",
    r"[(+)+]+",
    r"\(a+\)+",
]
NESTED = [r"(a+)+x", r"(a*)*", r"(?:x(a+)?)*", r"((ab{2,})|c)+?", r"(\p{L}+ ?)+$", r"([)]+)+"]


@pytest.mark.parametrize("pattern", SOUND)
def test_patterns_of_public_tokenizers_are_not_tried(pattern: str) -> None:
    assert not has_nested_repeats(pattern)


@pytest.mark.parametrize("pattern", NESTED)
def test_repeats_inside_repeats_are_found(pattern: str) -> None:
    assert has_nested_repeats(pattern)


@pytest.mark.parametrize("pattern", ["", "(", ")", "[", "\\", "(()", "a{", "(a+)+++", "[[]"])
def test_any_text_is_read(pattern: str) -> None:
    has_nested_repeats(pattern)
