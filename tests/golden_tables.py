"""Made-up tables of runs: the same numbers on every machine, through arithmetic alone."""

import math


def law_of(params, tokens):
    """The loss without noise, as in Hoffmann et al."""
    return 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28


def csv_of(header, rows):
    """The rows as CSV; the last column, the loss, gets up to 0.2% of noise without a generator."""
    lines = [
        ",".join(
            f"{cell:.6g}" for cell in (*row[:-1], row[-1] * (1 + 0.002 * math.sin(37 * i * i)))
        )
        for i, row in enumerate(rows)
    ]
    return "\n".join([header, *lines]) + "\n"


def budgets():
    """Seven sizes around the best one at each of four budgets."""
    rows = []
    for flops in (1e18, 3e18, 1e19, 3e19):
        best = 0.6 * (flops / 6) ** 0.452
        for step in range(-3, 4):
            params = best * 1.6**step
            rows.append((params, flops, law_of(params, flops / 6 / params)))
    return csv_of("params,flops,loss", rows)


def curves():
    """Forty points along each of five runs."""
    rows = []
    for run, params in enumerate((1e7, 3e7, 1e8, 3e8, 1e9)):
        for point in range(40):
            tokens = params * 0.5 * 1.2**point
            rows.append((run, params, tokens, law_of(params, tokens)))
    return csv_of("run,params,tokens,loss", rows)


def repeated():
    """A grid of sizes and tokens whose data repeats; repeats wear out as in Muennighoff et al."""
    rows = []
    for params in (1e7, 3e7, 1e8, 3e8):
        for tokens in (1e9, 3e9, 1e10, 3e10):
            for passes in (1, 4, 16):
                unique = tokens / passes
                worth = unique * (1 + 15.4 * (1 - math.exp(-(passes - 1) / 15.4)))
                rows.append((params, tokens, unique, law_of(params, worth)))
    return csv_of("params,tokens,unique_tokens,loss", rows)


TABLES = {"budgets": budgets, "curves": curves, "repeated": repeated}
