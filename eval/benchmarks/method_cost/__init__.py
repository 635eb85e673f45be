"""`python -m eval benchmarks.method_cost`: what each method costs, beside its peers."""
