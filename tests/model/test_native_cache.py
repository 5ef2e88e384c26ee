"""The kernels' shared object is derived: a damaged one is built again."""

import pytest

from windtunnel.model.native import kernels
from windtunnel.user_folders import user_cache

CACHES = (kernels.identity, kernels._library, kernels.function)


@pytest.mark.skipif(kernels.compiler() is None, reason="needs a C++ compiler")
@pytest.mark.medium
def test_a_damaged_library_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for each in CACHES:
        each.cache_clear()
    try:
        built = user_cache("native") / f"{kernels.identity()}.so"
        built.write_bytes(b"no machine code")
        assert callable(kernels.function("embed", "fp32"))
        assert built.stat().st_size > 10_000
    finally:
        for each in CACHES:
            each.cache_clear()
