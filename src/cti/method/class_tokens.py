"""The class tokens and the background token, made out of the one token that the backbone was pre-trained with."""

import torch
from torch import Tensor, nn


class ClassTokens(nn.Module):
    """Class tokens out of one base token; they depend on no image.

    Args:
        cls_token: (1, 1, D) pre-trained CLS token, the base.
        cls_position: (1, 1, D) its position embedding, the start of every class token's own.
        num_classes: C.
        with_background: Whether a background token comes first.
        copies: Whether all tokens start as copies of the base token; else a random MLP and background token tell them
            apart, as in the paper.
    """

    def __init__(
        self, cls_token: Tensor, cls_position: Tensor, num_classes: int, with_background: bool, copies: bool
    ) -> None:
        super().__init__()
        dim = cls_token.shape[-1]
        self.num_tokens = num_classes + int(with_background)
        self.cls_token = nn.Parameter(cls_token.clone())
        self.bg_token = nn.Parameter(torch.zeros(1, 1, dim)) if with_background else None
        self.pos_embed = nn.Parameter(cls_position.repeat(1, self.num_tokens, 1))
        self.mlp = nn.Sequential(nn.Linear(dim, 5 * dim), nn.ReLU(), nn.Linear(5 * dim, self.num_tokens * dim))
        if self.bg_token is not None:
            nn.init.trunc_normal_(self.bg_token, std=0.02)
        for layer in self.mlp.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        if copies:
            last = self.mlp[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            if self.bg_token is not None:
                self.bg_token.data.copy_(self.cls_token.data)

    def forward(self) -> Tensor:
        """The tokens with their positions: (1, K, D), background first."""
        tokens = self.mlp(self.cls_token).unflatten(-1, (self.num_tokens, -1)).squeeze(1)  # (1, K, D)
        base = self.cls_token.expand(-1, self.num_tokens, -1)
        if self.bg_token is not None:
            base = torch.cat([self.bg_token, base[:, 1:]], dim=1)
        return tokens + base + self.pos_embed
