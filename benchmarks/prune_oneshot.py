"""Accuracy of pruning without training: by size alone, and with least-squares selection and refit.

    python benchmarks/prune_oneshot.py MODEL CARD [--level 2:4 --level 1x16@0.75 ...] [--samples 512]

Calibrates on the card's training rows and scores the test rows. `kept` and `work` are the shares of all weights and of
all multiply-accumulates that are left.
"""

import argparse
import time

from edgeprune.data import load_card
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.weights import output_positions, read_weight, weighted_layers
from edgeprune.metric import score
from edgeprune.passes.prune import Prune
from edgeprune.passes.refit import Refit
from edgeprune.pattern import parse_pattern
from edgeprune.search.levels import global_levels


def shares(model):
    """What is left of the weights and of the multiply-accumulates."""
    weights = [(read_weight(layer), output_positions(layer)) for layer in weighted_layers(model)]
    kept = [(weight != 0).sum() for weight, _ in weights]
    work = sum(count * uses for count, (_, uses) in zip(kept, weights, strict=True))
    return sum(kept) / sum(w.size for w, _ in weights), work / sum(w.size * uses for w, uses in weights)


def value(model, card, test):
    return score(card.metric, Session(model).run_rows(test), test.labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("card")
    parser.add_argument("--level", action="append", help="a pattern, with @SPARSITY where it leaves the level open")
    parser.add_argument("--samples", type=int, default=512)
    options = parser.parse_args()
    model, card = load(options.model), load_card(options.card)
    specs = input_specs(model)
    train, test = card.load("train", specs, options.samples), card.load("test", specs)
    print(f"dense: {value(model, card, test):.4f} {card.metric} of {test.count} rows")
    print(f"{'level':>14} {'kept':>6} {'work':>6} {'by size':>8} {'refitted':>9} {'seconds':>8}")
    for text in options.level or ["2:4", "1x1@0.75", "1x8@0.75", "1x16@0.75"]:
        name, _, sparsity = text.partition("@")
        levels = global_levels(model, parse_pattern(name), float(sparsity or 0))
        by_size = Prune(levels)(model)
        start = time.perf_counter()
        refitted = Refit(levels, samples=options.samples)(model, train)
        seconds = time.perf_counter() - start
        kept, work = shares(refitted)
        results = f"{value(by_size, card, test):8.4f} {value(refitted, card, test):9.4f} {seconds:8.1f}"
        print(f"{text:>14} {kept:6.3f} {work:6.3f} {results}", flush=True)


if __name__ == "__main__":
    main()
