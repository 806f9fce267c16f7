"""Benchmarks of the engine and of the whole service, beside a bare loop, LitServe and RQ's SimpleWorker."""
