"""`python -m eval benchmarks.throughput`: images a second, of ours and of the peers."""
