import pytest

from windtunnel.accounting import exact_flops_per_token, non_embedding_params

# MiniCPM (arXiv 2404.06395), Tables 8 and 2: width, kv heads, depth -> non-embedding parameters.
MODELS = {
    "9M": (320, 5, 8, 9_426_240),
    "30M": (512, 8, 12, 36_188_672),
    "70M": (640, 10, 14, 65_964_160),
    "0.1B": (768, 12, 16, 108_552_960),
    "0.17B": (896, 14, 18, 166_216_064),
    "0.2B": (1024, 16, 20, 241_214_464),
    "0.5B": (1344, 21, 24, 498_614_592),
    "1.2B": (1536, 8, 52, 1_247_442_432),
    "2.4B": (2304, 36, 40, 2_442_057_984),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_formula_counts_nine_models(name):
    width, kv_heads, depth, expected = MODELS[name]
    counted = non_embedding_params(
        width=width, depth=depth, head_dim=64, kv_heads=kv_heads, ffn_width=width * 5 // 2
    )
    assert counted == expected


def test_exact_flops_by_hand():
    # One layer, width 4, head 2, ffn 10, context 3, vocabulary 7. Forward multiply-adds a token:
    # q, o: 2 * 16; k, v: 2 * 16; ffn: 3 * 40; scores and values: 2 * 3 * 4; head: 28.
    multiply_adds = 32 + 32 + 120 + 24 + 28
    assert (
        exact_flops_per_token(
            width=4, depth=1, head_dim=2, kv_heads=2, ffn_width=10, vocab_size=7, context=3
        )
        == 3 * 2 * multiply_adds
    )


@pytest.mark.parametrize(("width", "depth", "ratio"), [(32, 4, 2.0), (128, 4, 1.2)])
def test_exact_flops_differ_from_6nd_as_measured(width, depth, ratio):
    shape = {"width": width, "depth": depth, "head_dim": 16, "kv_heads": width // 16}
    shape["ffn_width"] = width * 5 // 2
    exact = exact_flops_per_token(**shape, vocab_size=256, context=128)
    assert exact / (6 * non_embedding_params(**shape)) == pytest.approx(ratio, rel=0.1)
