"""A shuffle that is looked up, not stored: position -> shuffled position, in constant memory.

A number below `size` is written as (left, right) with left < a, right < b and a * b just above
`size`. Each half in turn is shifted by a hash of the other (a Feistel network), which can always be
undone, so the whole is a bijection of a * b numbers. The few results at or above `size` are sent
through again until they land below it ("cycle walking"), which keeps the bijection.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt

# Six half rounds; four are the minimum for a pseudo-random permutation (Luby and Rackoff 1988).
HALF_ROUNDS = 6

Positions = npt.NDArray[np.uint64]


def shuffle_keys(*parts: str | int) -> tuple[int, ...]:
    """One 64-bit key for each half round, a pure function of `parts`."""
    text = "\x1f".join(map(str, parts)).encode()
    digest = hashlib.blake2b(text, digest_size=8 * HALF_ROUNDS).digest()
    return tuple(int.from_bytes(digest[i : i + 8], "little") for i in range(0, len(digest), 8))


def permute(
    positions: npt.NDArray[np.int64], *, size: int, keys: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Shuffled positions, a bijection of range(size).

    Args:
        positions: Shape (n,), each in [0, size).
        size: Length of the thing shuffled, 1 to 2**63.
        keys: From `shuffle_keys`.

    Returns:
        Shape (n,), each in [0, size).
    """
    left_size = math.isqrt(size - 1) + 1
    right_size = -(-size // left_size)
    shuffled = _feistel(positions.astype(np.uint64), left_size, right_size, keys)
    while (outside := shuffled >= size).any():
        shuffled[outside] = _feistel(shuffled[outside], left_size, right_size, keys)
    return shuffled.astype(np.int64)


def _feistel(
    positions: Positions, left_size: int, right_size: int, keys: tuple[int, ...]
) -> Positions:
    right, left = np.divmod(positions, np.uint64(left_size))
    for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
        left = (left + _hash32(right, left_key)) % np.uint64(left_size)
        right = (right + _hash32(left, right_key)) % np.uint64(right_size)
    return right * np.uint64(left_size) + left


def _hash32(half: Positions, key: int) -> Positions:
    """A 32-bit hash; 32 bits so that adding it to a half cannot wrap, which would not be undone."""
    mixed = (half + np.uint64(key)) * np.uint64(0xBF58476D1CE4E5B9)  # multipliers of splitmix64
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed >> np.uint64(32)
