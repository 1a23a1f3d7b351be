"""A byte-safe word-level tokenizer: every word of the corpus is one token, and any other text falls back to its bytes.

In: the sentences of `corpus.py`. Out: a `PreTrainedTokenizerFast`: BPE without merges and with `ignore_merges`, so that a
word in the vocabulary is one token and any other is spelled in the 256 byte symbols.

A word includes the space before it and an apostrophe that elides (`l'`, `n'`). `<|endoftext|>` is token 0, pads, and is not
put in front by the tokenizer: as with Qwen3, whoever runs the model prepends it.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ingest.tiny import corpus

END_OF_TEXT = "<|endoftext|>"

WORD_PATTERN = r" ?\p{L}+(?:['’](?=\p{L}))?| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""A word with its space and eliding apostrophe, a digit, other signs, white space; every character is in some piece."""


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary is the end-of-text token, 256 byte symbols and every word of `texts`, sorted."""
    pre_tokenizer = _pre_tokenizer()
    pieces = {piece for text in texts for piece, _ in pre_tokenizer.pre_tokenize_str(text)}
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [END_OF_TEXT, *symbols, *sorted(pieces - set(symbols))]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def corpus_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of both shipped models: the words of the whole bilingual corpus, held-out sentences included.

    The control has the same vocabulary, so that models differ in nothing but what they read.
    """
    return build_tokenizer([*(sentence.text for sentence in corpus.sentences("bilingual")), "\n"])


def token_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens of `text` without the prepended end-of-text token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
