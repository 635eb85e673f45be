"""`python -m eval.benchmarks.compiled`: what the compiler of an accelerator makes of the library, without one."""
