"""What each token adds to a text, whatever the tokenizer does at a text's start."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.models.tokenizer import train_tokenizer


def word_piece() -> PreTrainedTokenizerFast:
    words = ["[UNK]", "sum", "##s", "of", "two", "2"]
    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


def sentence_piece() -> PreTrainedTokenizerFast:
    pieces = [("<unk>", 0.0), ("▁sum", -1.0), ("s", -1.0), ("▁of", -1.0), ("▁two", -1.0)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


@pytest.mark.parametrize("make", [word_piece, sentence_piece])
def test_spaces_before_words_are_kept(make) -> None:
    tokenizer = make()
    ids = tokenizer("sums of two sums")["input_ids"]
    assert token_strings(ids, tokenizer) == ["sum", "s", " of", " two", " sum", "s"]


def test_a_character_of_several_tokens_comes_with_its_last_one() -> None:
    tokenizer = train_tokenizer(["abc"], 300)
    ids = tokenizer("a\u20acb")["input_ids"]
    strings = token_strings(ids, tokenizer)
    assert "".join(strings) == tokenizer.decode(ids)
    assert "\u20ac" in strings
    assert "" in strings


def test_time_is_linear() -> None:
    """No call decodes more than a few tokens, however long the text is."""
    inner = word_piece()

    class Counting:
        longest = 0

        def decode(self, ids, **options):
            Counting.longest = max(Counting.longest, len(ids))
            return inner.decode(ids, **options)

    token_strings([1, 2, 3] * 200, Counting())  # type: ignore[arg-type]
    assert Counting.longest <= 8
