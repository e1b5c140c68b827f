"""Tiny random backbones, saved where `find` takes them from."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_bert(folder: Path, seed: int = 0) -> Path:
    """Save a BERT of 2 layers that takes 32 sub-words, letters and their continuations, and return its folder."""
    pieces = [*SPECIAL, "aurora", "haven", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(folder)
    return folder


def save_roberta(folder: Path) -> Path:
    """Save a RoBERTa of 1 layer over bytes, which keeps 2 of its 34 positions for itself, and return its folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "Ġt", "he", "Ġthe"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[("Ġ", "t"), ("h", "e"), ("Ġt", "he")])
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=34,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(folder)
    return folder


def save_t5(folder: Path, seed: int = 0, sentinels: int = 0) -> Path:
    """Save a T5 of 1 layer over letters, single and at the beginning of a word, and return its folder."""
    letters = f"{LETTERS}{LETTERS.upper()[:26]}:;()=>"
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{letter}" for letter in letters)]
    T5Tokenizer(
        vocab=[(piece, 0.0 if n < 3 else -2.0) for n, piece in enumerate(pieces)], extra_ids=sentinels
    ).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(pieces) + sentinels,
        d_model=32,
        d_kv=16,
        d_ff=48,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    torch.manual_seed(seed)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def save_causal(folder: Path, kind: str) -> Path:
    """Save a causal model of 2 layers over letters, Llama's kind (which begins a text with a sign) or GPT-2's."""
    signs = [*LETTERS[:26], *LETTERS[:26].upper(), *":;,.()=>"]
    pieces = ["<unk>", "<s>", "</s>", "▁", *signs, *(f"▁{sign}" for sign in signs)]
    scores = [(piece, 0.0 if n < 3 else -2.0) for n, piece in enumerate(pieces)]
    raw = Tokenizer(Unigram(scores, unk_id=0))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    if kind == "llama":
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=256
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"vocab_size": len(pieces), "bos_token_id": 1, "eos_token_id": 2}
    if kind == "llama":
        config = LlamaConfig(
            hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, **size,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    else:
        GPT2LMHeadModel(GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=256, **size)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def t5(tmp_path_factory) -> Path:
    return save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("roberta"))
