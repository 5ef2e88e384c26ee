"""Parameters and FLOPs of the decoder as plain arithmetic.

One formula counts all nine models of MiniCPM (arXiv 2404.06395, Tables 2 and 8) to the digit:
attention (q, o, and k, v over the kv heads), a gated feed-forward of three matrices, two norms a
layer and the final norm. Embedding and head are counted separately.
"""

BACKWARD_FACTOR = 3
"""FLOPs of forward and backward per forward FLOP; a backward is two matmuls each (derived)."""


def non_embedding_params(
    *, width: int, depth: int, head_dim: int, kv_heads: int, ffn_width: int, qk_norm: bool = False
) -> int:
    """Parameters without embedding and head, final norm included (the paper's N)."""
    attention = 2 * width * width + 2 * width * kv_heads * head_dim
    feed_forward = 3 * width * ffn_width
    norms = 2 * width + (2 * head_dim if qk_norm else 0)
    return depth * (attention + feed_forward + norms) + width


def embedding_params(*, width: int, vocab_size: int, tied: bool) -> int:
    """Parameters of the token embedding and, when untied, of the head."""
    return vocab_size * width * (1 if tied else 2)


def exact_flops_per_token(
    *,
    width: int,
    depth: int,
    head_dim: int,
    kv_heads: int,
    ffn_width: int,
    vocab_size: int,
    context: int,
) -> int:
    """Training FLOPs per token with attention scores and head counted (matmuls only).

    Scores and values are counted over the whole context (no causal halving), as Megatron and PaLM
    (arXiv 2204.02311, appendix B) do. The embedding look-up is not a matmul and counts as zero.
    """
    projections = 2 * width * width + 2 * width * kv_heads * head_dim + 3 * width * ffn_width
    attention = 2 * context * width
    forward = 2 * (depth * (projections + attention) + vocab_size * width)
    return BACKWARD_FACTOR * forward


def flops_6nd(params: float, tokens: float) -> float:
    """Training FLOPs by the rule C = 6 N D (Kaplan et al. 2020), N non-embedding."""
    return 6.0 * params * tokens
