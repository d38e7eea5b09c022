"""Data cards: what data there is, how it is fed to a model, and the samples themselves."""

from edgeprune.data.card import SPLITS, Card, Section
from edgeprune.data.card_file import load_card
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import InputSpec, Samples, random_samples

__all__ = ["SPLITS", "Card", "InputSpec", "Preprocess", "Samples", "Section", "load_card", "random_samples"]
