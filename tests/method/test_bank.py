"""The bank: which tokens it keeps, whose means it gives, and when its gate opens."""

import pytest
import torch
import torch.nn.functional as F

from cti.method import TokenBank

LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def test_it_keeps_the_last_tokens_in_order() -> None:
    bank = TokenBank(num_classes=2, size=2, dim=4)
    tokens = torch.randn(3, 2, 4)
    bank.append(tokens, torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]))
    normed = F.layer_norm(tokens, (4,), eps=1e-5)
    assert bank.seen.tolist() == [3, 1]
    assert bank.full.tolist() == [True, False]
    torch.testing.assert_close(bank.means(), torch.stack([normed[1:, 0].mean(0), normed[1, 1]]))


def test_tokens_are_normed_with_the_authors_eps() -> None:
    """Small tokens show it: of variance 1e-5, the same as eps, they come out shorter by the root of 2."""
    bank = TokenBank(num_classes=1, size=1, dim=2)
    spread = 1e-5**0.5
    bank.append(torch.tensor([[[spread, -spread]]]), torch.ones(1, 1))
    torch.testing.assert_close(bank.means(), torch.tensor([[0.5**0.5, -(0.5**0.5)]]), rtol=1e-4, atol=0)


def test_a_class_without_tokens_has_a_mean_of_zero() -> None:
    assert TokenBank(2, 3, 4).means().tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    ("seen", "gate", "expected"),
    [
        ([2, 2, 2], "all", [[True, False, True], [False, False, False]]),
        ([2, 1, 2], "all", [[False, False, False], [False, False, False]]),
        ([2, 1, 2], "per_class", [[True, False, True], [False, False, False]]),
        ([5, 5, 1], "per_class", [[True, False, False], [False, False, False]]),
        ([1, 1, 1], "per_class", [[False, False, False], [False, False, False]]),
    ],
)
def test_the_gate(seen: list[int], gate: str, expected: list[list[bool]]) -> None:
    bank = TokenBank(num_classes=3, size=2, dim=4)
    bank.seen.copy_(torch.tensor(seen))
    assert bank.ready(LABELS, gate).tolist() == expected


def test_ready_classes_get_the_mean_and_the_others_keep_their_own() -> None:
    bank = TokenBank(num_classes=3, size=2, dim=4)
    bank.tokens.copy_(torch.randn(3, 2, 4))
    bank.seen.fill_(2)
    own = torch.randn(2, 3, 4, requires_grad=True)
    tokens = bank.means_where(bank.ready(LABELS, "all"), own)
    assert not tokens.requires_grad  # they are given, not learned
    for image in range(2):
        for index in range(3):
            expected = bank.tokens[index].mean(dim=0) if LABELS[image, index] else own[image, index]
            torch.testing.assert_close(tokens[image, index], expected)


def test_half_precision_loses_nothing_in_the_bank_and_is_given_back() -> None:
    bank = TokenBank(num_classes=1, size=1, dim=64)
    own = torch.randn(1, 1, 64).bfloat16()
    bank.append(own, torch.ones(1, 1))
    torch.testing.assert_close(bank.means(), F.layer_norm(own.float(), (64,), eps=1e-5)[0], rtol=1e-6, atol=1e-6)
    assert bank.means_where(torch.ones(1, 1, dtype=torch.bool), own).dtype == torch.bfloat16
