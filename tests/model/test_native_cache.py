"""The kernels' shared object is derived: a damaged one is built again."""

import pytest

from windtunnel.model.native import library
from windtunnel.user_cache import user_cache

CACHES = (library.identity, library._library, library.function)


@pytest.mark.skipif(library.compiler() is None, reason="needs a C++ compiler")
def test_a_damaged_library_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for each in CACHES:
        each.cache_clear()
    try:
        built = user_cache("native") / f"{library.identity()}.so"
        built.write_bytes(b"no machine code")
        assert callable(library.function("embed", "fp32"))
        assert built.stat().st_size > 10_000
    finally:
        for each in CACHES:
            each.cache_clear()
