"""The Volume Shadow Copy Service of a host: requestors, writers, providers, and the order in which they act."""
