"""A backbone of one's own, around torch's encoder layers; model=encoder chooses it."""

import torch
from torch import nn

from igpo_lightning.models import BackboneModule, register_backbone


@register_backbone("torch_encoder")
class Encoder(BackboneModule):
    """Learned positions, torch's encoder layers, and a head."""

    linear_names = ("linear1", "linear2")  # what adapters go to

    def __init__(self, config, tokens):
        words, width = config["vocab_size"], config["hidden_size"]
        super().__init__(config, tokens, words, width)
        self.embed, self.place = nn.Embedding(words, width), nn.Embedding(config["longest"], width)
        sizes = {"d_model": width, "nhead": config["heads"], "dim_feedforward": 4 * width}
        layer = nn.TransformerEncoderLayer
        layers = (layer(**sizes, dropout=0.0, batch_first=True) for _ in range(config["layers"]))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, words, bias=False)

    @property
    def blocks(self):
        return self.layers

    def encode(self, input_ids, attention_mask=None, *, window=None, cache=None):
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        hidden = self.embed(input_ids) + self.place((real.cumsum(dim=1) - 1).clamp(min=0))
        for block in self.blocks:
            hidden = block(hidden, src_key_padding_mask=real == 0)
        return hidden[:, slice(*window)] if window else hidden

    def project(self, hidden):
        return self.head(hidden)
