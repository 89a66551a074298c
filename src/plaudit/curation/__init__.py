"""What is labelled and learned from: preference trees, pair factories, duplicates, leaks, balance and cleaning."""
